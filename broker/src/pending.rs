//! Stand-ins for neighbours that are not there yet.
#![allow(missing_docs, dead_code)]
use types::*;
#[derive(Debug)]
pub struct Image;
pub struct Feature {
    pub name: &'static str,
    pub versions: (i16, i16),
}
impl Image {
    pub fn supported_features(&self) -> std::vec::IntoIter<Feature> {
        vec![].into_iter()
    }
    pub fn finalized_features(&self) -> std::vec::IntoIter<(&'static str, i16)> {
        vec![].into_iter()
    }
    pub fn offset(&self) -> Offset {
        Offset(0)
    }
    pub fn is_compacted_only(&self, _: &str) -> bool {
        false
    }
}
pub struct Controller;
pub struct MetadataRecord;
