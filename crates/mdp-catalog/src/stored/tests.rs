use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn version() -> SoftwareVersion {
    SoftwareVersion { major: 0, minor: 1, patch: 2 }
}

fn endpoints() -> Endpoints {
    Endpoints { client: "c".to_owned(), cluster: "k".to_owned(), relay: "r".to_owned() }
}

fn node_up() -> NodeUp {
    NodeUp {
        node: "n1".parse().unwrap(),
        node_id: NodeId(0x0102_0304_0506_0708),
        boot: Boot { process: 9, attempt: 3 },
        expected_epoch: Epoch(300),
        endpoints: endpoints(),
        version: version(),
    }
}

fn incarnation() -> Incarnation {
    Incarnation { node: "n1".parse().unwrap(), epoch: Epoch(5) }
}

fn entries() -> Vec<CatalogEntry> {
    let services = vec![ServiceName::try_from("a").unwrap(), ServiceName::try_from("bc").unwrap()];
    let (incarnation, seq) = (incarnation(), Seq(7));
    vec![
        CatalogEntry::NodeUp(node_up()),
        CatalogEntry::Offer { incarnation: incarnation.clone(), seq, services: services.clone() },
        CatalogEntry::Withdraw { incarnation: incarnation.clone(), seq, services },
        CatalogEntry::NodeDraining { incarnation: incarnation.clone(), seq },
        CatalogEntry::NodeGone { incarnation },
        CatalogEntry::SetClusterVersion { version: version() },
        CatalogEntry::Retire { node_id: NodeId(250) },
        CatalogEntry::Hold { at: Some(version()) },
    ]
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for (index, entry) in (4..).zip(entries()) {
        let entry = match entry {
            CatalogEntry::NodeUp(up) => {
                CatalogEntry::NodeUp(NodeUp { expected_epoch: Epoch(0), ..up })
            }
            CatalogEntry::Offer { seq, services, .. } => CatalogEntry::Offer {
                incarnation: Incarnation { node: "n1".parse().unwrap(), epoch: Epoch(4) },
                seq,
                services,
            },
            other @ (CatalogEntry::Withdraw { .. }
            | CatalogEntry::NodeDraining { .. }
            | CatalogEntry::NodeGone { .. }
            | CatalogEntry::SetClusterVersion { .. }
            | CatalogEntry::Retire { .. }
            | CatalogEntry::Hold { .. }
            | CatalogEntry::Mark { .. }) => other,
        };
        // Some are refused; what the others make is enough.
        drop(catalog.apply(index, entry));
    }
    assert_eq!((catalog.nodes().count(), catalog.service_count()), (1, 2));
    catalog
}

/// The bytes of format 1. They never change: a node must read what an older one wrote.
const GOLDEN_ENTRIES: [&str; 8] = [
    "01010000026e31fd08070605040302010903fb2c010163016b0172000102",
    "01010001026e310507020161026263",
    "01010002026e310507020161026263",
    "01010003026e310507",
    "01010004026e3105",
    "01010005000102",
    "01010006fa",
    "0101000701000102",
];

const GOLDEN_SNAPSHOT: &str = concat!(
    "02010000010201026e31fd080706050403020104090307000163016b017200010202016101000262",
    "63010001fa0100010200",
);

#[test]
fn bytes_of_format_1_never_change() {
    for (entry, golden) in entries().iter().zip(GOLDEN_ENTRIES) {
        let bytes = encode_entry(entry).unwrap();
        assert_eq!(hex(&bytes), golden, "{entry}");
        assert_eq!(decode_entry(&bytes).as_ref(), Ok(entry));
    }
    let bytes = encode_snapshot(&catalog()).unwrap();
    assert_eq!(hex(&bytes), GOLDEN_SNAPSHOT);
    assert_eq!(decode_snapshot(&bytes), Ok(catalog()));
}

#[test]
fn snapshot_of_a_cluster_without_a_version_keeps_that_of_its_founders() {
    let mut catalog = Catalog::new();
    for entry in entries() {
        if let CatalogEntry::NodeUp(up) = entry {
            let up = NodeUp { expected_epoch: Epoch(0), ..up };
            catalog.apply(1, CatalogEntry::NodeUp(up)).unwrap();
        }
    }
    assert!(catalog.oldest_founder().is_some());

    assert_eq!(decode_snapshot(&encode_snapshot(&catalog).unwrap()), Ok(catalog));
}

#[test]
fn trailing_byte_and_cut_are_refused() {
    for entry in entries() {
        let bytes = encode_entry(&entry).unwrap();
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(decode_entry(&longer), Err(CodecError::TrailingBytes { .. })));
        for length in 0..bytes.len() {
            assert!(decode_entry(&bytes[..length]).is_err(), "{entry} cut to {length}");
        }
    }
}

#[test]
fn names_that_nobody_may_have_are_refused() {
    let change = ChangeV1 {
        incarnation: IncarnationV1 { node: "n1".to_owned(), epoch: 5 },
        seq: 1,
        services: vec![Vec::new()],
    };
    let bytes = codec::encode(Kind::CatalogEntry, 1, &EntryV1::Offer(change)).unwrap();
    assert!(matches!(decode_entry(&bytes), Err(CodecError::Malformed { .. })));

    let incarnation = IncarnationV1 { node: "no name".to_owned(), epoch: 5 };
    let entry = EntryV1::NodeGone { incarnation };
    let bytes = codec::encode(Kind::CatalogEntry, 1, &entry).unwrap();
    assert!(matches!(decode_entry(&bytes), Err(CodecError::Malformed { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_entry(&bytes));
        drop(decode_snapshot(&bytes));
        let headed = |kind: Kind| [&[kind as u8, 1, 0][..], &bytes].concat();
        drop(decode_entry(&headed(Kind::CatalogEntry)));
        drop(decode_snapshot(&headed(Kind::CatalogSnapshot)));
    }
}

#[cfg(not(feature = "test-next"))]
#[test]
fn entry_and_snapshot_of_the_next_version_are_of_an_unknown_format() {
    let mark = CatalogEntry::Mark { number: 1 };
    assert!(matches!(encode_entry(&mark), Err(CodecError::UnknownFormat { got: 2, .. })));
    for kind in [Kind::CatalogEntry, Kind::CatalogSnapshot] {
        let bytes = codec::encode(kind, 2, &0_u64).unwrap();
        let got = match kind {
            Kind::CatalogEntry => decode_entry(&bytes).map(drop),
            _ => decode_snapshot(&bytes).map(drop),
        };
        assert!(matches!(got, Err(CodecError::UnknownFormat { got: 2, known: 1, .. })), "{got:?}");
    }
}

#[cfg(feature = "test-next")]
#[test]
fn snapshot_is_in_the_format_of_the_clusters_version() {
    let mark = CatalogEntry::Mark { number: 1 };
    assert_eq!(decode_entry(&encode_entry(&mark).unwrap()), Ok(mark.clone()));

    let mut catalog = Catalog::new();
    assert_eq!(encode_snapshot(&catalog).unwrap()[1], 1);
    let version = crate::MARK_SINCE;
    catalog.apply(1, CatalogEntry::SetClusterVersion { version }).unwrap();
    catalog.apply(2, mark).unwrap();
    let bytes = encode_snapshot(&catalog).unwrap();

    assert_eq!(bytes[1], 2);
    assert_eq!(decode_snapshot(&bytes), Ok(catalog));
}
