//! Headers of requests and responses.

use types::encoding::{DecodeError, EncodeError, Reader, Str, Writer};

use crate::ApiKey;

/// What precedes each request.
///
/// Key and version are plain numbers, since anything may arrive; the rest of the header can be read only if both are
/// known, because they decide whether it has tagged fields.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestHeader {
    /// Which question this is.
    pub request_api_key: i16,
    /// In which version.
    pub request_api_version: i16,
    /// The number that the response will repeat.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// The header of a request.
    pub fn new(key: ApiKey, version: i16, correlation_id: i32, client_id: Option<Str>) -> Self {
        RequestHeader {
            request_api_key: key.as_i16(),
            request_api_version: version,
            correlation_id,
            client_id,
        }
    }

    /// Writes it as header version 1 or 2.
    pub fn encode(&self, w: &mut Writer, header_version: i16) -> Result<(), EncodeError> {
        w.i16(self.request_api_key);
        w.i16(self.request_api_version);
        w.i32(self.correlation_id);
        // The client id keeps its old form in every version, so that any broker can read the header of `ApiVersions`.
        w.nullable_str(&self.client_id, false)?;
        if header_version >= 2 {
            w.no_tags();
        }
        Ok(())
    }

    /// Reads it as header version 1 or 2.
    pub fn decode(r: &mut Reader, header_version: i16) -> Result<Self, DecodeError> {
        let header = RequestHeader {
            request_api_key: r.i16()?,
            request_api_version: r.i16()?,
            correlation_id: r.i32()?,
            client_id: r.nullable_str(false)?,
        };
        if header_version >= 2 {
            r.skip_tags()?;
        }
        Ok(header)
    }

    /// Reads the header at the front of a request's frame, whatever its version.
    ///
    /// For a key or version that is unknown the tagged fields, if there are any, are left unread: nobody will read what
    /// follows them either, but the correlation id is needed for the refusal.
    pub fn of_frame(r: &mut Reader) -> Result<Self, DecodeError> {
        let header = RequestHeader::decode(r, 1)?;
        if let Some(key) = header.api_key()
            && key.has_version(header.request_api_version)
            && key.request_header_version(header.request_api_version) >= 2
        {
            r.skip_tags()?;
        }
        Ok(header)
    }

    /// The API, if it exists.
    pub fn api_key(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.request_api_key)
    }
}

/// What precedes each response.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ResponseHeader {
    /// The number of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Writes it as header version 0 or 1.
    pub fn encode(&self, w: &mut Writer, header_version: i16) -> Result<(), EncodeError> {
        w.i32(self.correlation_id);
        if header_version >= 1 {
            w.no_tags();
        }
        Ok(())
    }

    /// Reads it as header version 0 or 1.
    pub fn decode(r: &mut Reader, header_version: i16) -> Result<Self, DecodeError> {
        let header = ResponseHeader { correlation_id: r.i32()? };
        if header_version >= 1 {
            r.skip_tags()?;
        }
        Ok(header)
    }
}
