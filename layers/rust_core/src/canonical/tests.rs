use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> Result<String, CanonicalError> {
    canonicalize(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn rfc_8785_section_3_2_3_sorts_by_utf_16() {
    let input = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let wanted = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
    assert_eq!(canonical(input).unwrap(), wanted);
}

#[test]
fn rfc_8785_section_3_2_2_writes_strings_and_literals() {
    let input =
        r#"{"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#;
    let wanted = "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
    assert_eq!(canonical(input).unwrap(), wanted);
}

#[test]
fn what_is_not_strict_i_json_is_refused_with_its_place() {
    for (input, path) in [
        (r#"{"a":{"b":1.5}}"#, "/a/b"),
        (r#"{"a":[1,9007199254740992]}"#, "/a/1"),
        (r#"{"a":-9223372036854775808}"#, "/a"),
        (r#"{"a":1,"a":1}"#, "/a"),
        (r#"{"a":1,"\u0061":1}"#, "/a"),
        (r#"{"a":"\ud800"}"#, ""),
        (r#"{"a":"\ufdd0"}"#, "/a"),
        ("{\"a\":\"\u{1fffe}\"}", "/a"),
        (r#"{"a":01}"#, "/a"),
        ("{\"a\":\"\n\"}", ""),
        (r#"{"a":NaN}"#, "/a"),
        (r#"{"a":1} x"#, ""),
        ("", ""),
    ] {
        let error = canonical(input).unwrap_err();
        assert!(path.is_empty() || error.path == path, "{input}: {error}");
    }
    assert!(canonicalize(b"\"\xff\"").is_err());
    assert!(canonical(&("[".repeat(100_000))).is_err());
}

#[test]
fn the_id_leaves_out_only_the_signature() {
    let named = name(br#"{"b":2,"a":1,"signature":"x"}"#).unwrap();
    assert_eq!(named.transaction_id, <[u8; 32]>::from(Sha256::digest(br#"{"a":1,"b":2}"#)));
    assert_eq!((&named.canonical[..], named.content), (&br#"{"a":1,"b":2,"signature":"x"}"#[..], None));
    let named = name(br#"{"content":{"z":1,"y":2},"a":1,"signature":"x","zone":3}"#).unwrap();
    let id = hex(&Sha256::digest(br#"{"a":1,"content":{"y":2,"z":1},"zone":3}"#));
    let wanted = format!("{{\"a\":1,\"transaction_id\":\"{id}\",\"zone\":3}}");
    assert_eq!(String::from_utf8(named.signing_bytes).unwrap(), wanted);
    assert_eq!(named.content, Some(br#"{"y":2,"z":1}"#.to_vec()));
    assert_eq!(name(b"[]").unwrap_err().rule, "is a JSON object");
}

/// Any text but noncharacters, which I-JSON refuses.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.chars().filter(|c| !is_noncharacter(*c)).collect())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-SAFE_INTEGER_MAX..=SAFE_INTEGER_MAX).prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn equal_to_serde_jcs(value in json()) {
        let ours = canonicalize(&serde_json::to_vec(&value).unwrap()).unwrap();
        prop_assert_eq!(ours, serde_jcs::to_vec(&value).unwrap());
    }

    #[test]
    fn names_are_ordered_by_utf_16(left in text(), right in text(), common in text()) {
        for (left, right) in [(left.clone(), right.clone()), (common.clone() + &left, common + &right)] {
            prop_assert_eq!(utf16_order(&left, &right), left.encode_utf16().cmp(right.encode_utf16()));
        }
    }

    #[test]
    fn canonical_bytes_are_a_fixed_point(value in json()) {
        let once = canonicalize(&serde_json::to_vec(&value).unwrap()).unwrap();
        prop_assert_eq!(canonicalize(&once).unwrap(), once);
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = canonicalize(&bytes);
        let _ = canonicalize(text.as_bytes());
    }
}

#[test]
fn surrogates_come_before_the_last_of_the_basic_plane() {
    let names = ["z", "\u{7ff}", "\u{d7ff}", "\u{10000}", "\u{10fffd}", "\u{e000}", "\u{fffd}"];
    assert!(names.is_sorted_by(|left, right| utf16_order(left, right).is_lt()));
}
