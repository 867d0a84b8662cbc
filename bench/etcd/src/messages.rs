//! The few messages of etcd's API that are needed, by hand: no protobuf compiler for six structs.
//!
//! Numbers and types are those of etcd's `rpc.proto` and `kv.proto`; fields that are not named here
//! are skipped when they are read.

use prost::Message;

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    pub(crate) member_id: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) raft_term: u64,
}

/// `etcdserverpb.RangeRequest`: linearizable unless `serializable` is set, which is not named here.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
}

/// `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
}

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`, `etcdserverpb.StatusRequest`: nothing of them is of interest.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

/// `etcdserverpb.StatusResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    pub(crate) leader: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_etcd() {
        // As `protoc --encode` writes them.
        assert_eq!(RangeRequest { key: b"echo".to_vec() }.encode_to_vec(), b"\x0a\x04echo");
        let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        let status =
            StatusResponse::decode(b"\x0a\x04\x10\x07\x20\x02\x12\x016\x20\x07".as_slice());
        let header = ResponseHeader { member_id: 7, raft_term: 2 };
        assert_eq!(status.unwrap(), StatusResponse { header: Some(header), leader: 7 });
    }
}
