//! Stand-ins for neighbours that are not there yet.
#![allow(missing_docs, dead_code)]
use std::marker::PhantomData;
use types::*;
#[derive(Clone, Debug)]
pub struct BrokerSettings;
#[derive(Debug)]
pub struct Image;
pub struct Controller;
pub struct MetadataRecord;
#[derive(Clone, Debug)]
pub struct Batch;
pub struct Log<D>(PhantomData<D>);
#[derive(Clone, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub append_time: Option<Timestamp>,
    pub log_start: Offset,
    pub duplicate: bool,
}
