//! Diagnostic notation, after the examples of RFC 8949, appendix A.

use image::{Need, RawRecord, Tag, diagnostic};
use proptest::prelude::*;

fn shown(body: &[u8]) -> String {
    let record = RawRecord { tag: Tag(0x1234), id: 5, need: Need::May, body: body.to_vec() };
    diagnostic(&record).strip_prefix("0x1234 #5: ").unwrap().to_owned()
}

#[test]
fn examples_of_the_standard() {
    let examples: [(&[u8], &str); 25] = [
        (&[0x00], "0"),
        (&[0x18, 0x64], "100"),
        (&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615"),
        (&[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "-18446744073709551616"),
        (&[0x38, 0x63], "-100"),
        (&[0xf9, 0x3c, 0x00], "1.0"),
        (&[0xf9, 0x7b, 0xff], "65504.0"),
        (&[0xf9, 0xc4, 0x00], "-4.0"),
        (&[0xf9, 0x04, 0x00], "6.1035156e-5"),
        (&[0xf9, 0x7c, 0x00], "inf"),
        (&[0xfa, 0x47, 0xc3, 0x50, 0x00], "100000.0"),
        (&[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a], "1.1"),
        (&[0xf4], "false"),
        (&[0xf6], "null"),
        (&[0xf7], "undefined"),
        (&[0xf0], "simple(16)"),
        (&[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0], "1(1363896240)"),
        (&[0x44, 1, 2, 3, 4], "h'01020304'"),
        (&[0x44, b'/', b't', b'm', b'p'], "'/tmp'"),
        (&[0x62, b'"', b'\n'], r#""\"\n""#),
        (&[0x83, 1, 0x82, 2, 3, 0x80], "[1, [2, 3], []]"),
        (&[0xa2, 1, 2, 0x61, b'a', 0xa0], "{1: 2, \"a\": {}}"),
        (&[0x9f, 1, 0x82, 2, 3, 0xff], "[_ 1, [2, 3]]"),
        (&[0xbf, 0x61, b'a', 1, 0xff], "{_ \"a\": 1}"),
        (&[0x5f, 0x42, 1, 2, 0x41, 3, 0xff], "h'010203'"),
    ];
    for (body, expected) in examples {
        assert_eq!(shown(body), expected, "{body:02x?}");
    }
}

#[test]
fn what_is_not_well_formed_is_shown_as_far_as_it_goes() {
    assert!(shown(&[]).starts_with(" !!! at byte 0"));
    assert!(shown(&[0x82, 1]).starts_with("[1,  !!! at byte 2"));
    assert_eq!(shown(&[1, 2, 3]), "1 !!! and 2 bytes more");
    assert!(shown(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).contains("!!!"));
    assert!(shown(&[0x81; 100_000]).contains('…'));
}

#[test]
fn nothing_upsets_a_terminal() {
    assert_eq!(shown(&[0x63, 0x1b, b'[', b'm']), r#""\u{1b}[m""#);
}

proptest! {
    #[test]
    fn any_bytes_are_shown(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!shown(&body).is_empty());
    }
}
