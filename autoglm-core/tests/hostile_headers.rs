//! Headers that lie about themselves, their tensors or the file, one test per way of lying. Each is
//! refused by an error that names the file and the tensor; none panics or takes memory the file does
//! not have.

// The allowance in clippy.toml covers test functions, not what they share.
#![allow(clippy::unwrap_used)]

mod writing;

use autoglm_core::checkpoint::{Dtype, HeaderError};
use autoglm_core::{Checkpoint, Error};
use writing::{bytes_named, chain, directory, entry, file, open};

/// What is wrong with a file, having seen that the error's line names it.
fn refusal(bytes: &[u8]) -> HeaderError {
    let directory = directory(&[("model.safetensors", bytes)]);
    let error = open(directory.path()).unwrap_err();
    assert!(chain(&error).contains("model.safetensors"), "{}", chain(&error));
    match error {
        Error::Header { source, .. } => source,
        other => panic!("{}", chain(&other)),
    }
}

/// What is wrong with a file of one tensor `w`, having seen that the error's line names the tensor.
fn refused_tensor(dtype: &str, shape: &str, offsets: &str, data: usize) -> HeaderError {
    let error = refusal(&file(format!("{{{}}}", entry("w", dtype, shape, offsets)), data));
    assert!(error.to_string().contains("`w`"), "{error}");
    error
}

/// What the JSON parser says about a file of one tensor.
fn json_refusal(dtype: &str, shape: &str, offsets: &str) -> String {
    match refused_tensor(dtype, shape, offsets, 4) {
        HeaderError::Json(error) => error.why,
        other => panic!("{other}"),
    }
}

fn refused_header(header: &str) -> String {
    match refusal(&file(header, 4)) {
        HeaderError::Json(error) => error.why,
        other => other.to_string(),
    }
}

#[test]
fn the_file_these_lies_are_told_about_opens_when_it_is_honest() {
    let honest = file(format!("{{{}}}", entry("w", "F32", "[1]", "[0,4]")), 4);
    assert_eq!(Checkpoint::from_bytes(honest).unwrap().len(), 1);
}

#[test]
fn a_file_shorter_than_a_header_length() {
    for len in 1..8 {
        assert_eq!(refusal(&vec![0; len]), HeaderError::Short { len });
    }
}

#[test]
fn a_header_longer_than_any() {
    for header in [100_000_001, u64::from(u32::MAX), 1 << 63, u64::MAX - 8, u64::MAX] {
        let mut bytes = header.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert_eq!(refusal(&bytes), HeaderError::Long { header });
    }
}

#[test]
fn a_header_longer_than_its_file_by_one_byte_or_many() {
    for header in [3, 4, 1000, 100_000_000] {
        let mut bytes = u64::to_le_bytes(header).to_vec();
        bytes.extend(b"{}");
        assert_eq!(refusal(&bytes), HeaderError::BeyondFile { header, len: 10 });
    }
}

#[test]
fn a_header_that_is_no_object_from_its_first_byte_on() {
    for header in ["", " {}", "[]", "null", "\u{feff}{}", "\0\0\0\0"] {
        assert_eq!(refusal(&file(header, 0)), HeaderError::NotAnObject);
    }
}

#[test]
fn a_header_that_is_not_json() {
    for header in ["{", "{\"w\"", "{} {}", "{\"w\":}", "{'w':1}", "{\"w\":{\"dtype\":\"F32\",}}", "{}\0"] {
        assert!(matches!(refusal(&file(header, 0)), HeaderError::Json(_)), "{header}");
    }
}

#[test]
fn a_header_that_is_not_utf8() {
    assert_eq!(refusal(&file(b"{\"w\xff\":1}", 0)), HeaderError::NotUtf8 { valid: 3 });
    // A surrogate, and an overlong slash.
    assert_eq!(refusal(&file(b"{\"\xed\xa0\x80\":1}", 0)), HeaderError::NotUtf8 { valid: 2 });
    assert_eq!(refusal(&file(b"{\"\xc0\xaf\":1}", 0)), HeaderError::NotUtf8 { valid: 2 });
}

#[test]
fn a_header_nested_deeper_than_any_stack() {
    for depth in [130, 60_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"w\":", "}")] {
            for place in ["", "\"dtype\":\"F32\",\"shape\":", "\"data_offsets\":", "\"other\":"] {
                let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let header =
                    if place.is_empty() { format!("{{\"w\":{nest}}}") } else { format!("{{\"w\":{{{place}{nest}}}}}") };
                assert!(matches!(refusal(&file(&header, 0)), HeaderError::Json(_)));
                let metadata = format!("{{\"__metadata__\":{{\"w\":{nest}}}}}");
                assert!(matches!(refusal(&file(&metadata, 0)), HeaderError::Json(_)));
            }
        }
    }
}

#[test]
fn more_tensors_than_any_checkpoint_has() {
    let header: Vec<String> = (0..=1 << 18).map(|i| entry(&i.to_string(), "U8", "[0]", "[0,0]")).collect();
    let why = refused_header(&format!("{{{}}}", header.join(",")));
    assert_eq!(why, "more than 262144 names");
}

#[test]
fn a_name_of_terminal_commands_is_spelled_out_and_cut() {
    let name = "\\u001b[2J\\n".repeat(1 << 16);
    let line = refusal(&file(format!("{{{}}}", entry(&name, "F32", "[2]", "[0,4]")), 4)).to_string();
    assert!(line.chars().count() < 400 && !line.contains(char::is_control), "{line}");
    let line = refused_header(&format!("{{\"{name}\":5}}"));
    assert!(line.chars().count() < 400 && !line.contains(char::is_control), "{line}");
}

#[test]
fn one_tensor_twice() {
    let w = entry("w", "F32", "[1]", "[0,4]");
    assert_eq!(refused_header(&format!("{{{w},{w}}}")), "duplicate key `w`");
    // The same name, spelled differently; and the same name with another place.
    assert_eq!(refused_header(&format!("{{{w},{}}}", entry("\\u0077", "F32", "[1]", "[0,4]"))), "duplicate key `w`");
    assert_eq!(refused_header(&format!("{{{w},{}}}", entry("w", "F32", "[1]", "[4,8]"))), "duplicate key `w`");
}

#[test]
fn one_field_or_the_metadata_twice() {
    let why = refused_header(r#"{"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#);
    assert_eq!(why, "`w`: duplicate field `shape`");
    assert_eq!(refused_header(r#"{"__metadata__":{},"__metadata__":{}}"#), "duplicate key `__metadata__`");
    assert_eq!(refused_header(r#"{"__metadata__":{"a":"1","a":"2"}}"#), "`__metadata__`: duplicate key `a`");
}

#[test]
fn fields_missing_unknown_or_of_another_type() {
    assert_eq!(refused_header(r#"{"w":{"dtype":"F32","shape":[1]}}"#), "`w`: missing field `data_offsets`");
    assert!(
        refused_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":2}}"#)
            .starts_with("`w`: unknown field `scale`")
    );
    assert!(refused_header(r#"{"__metadata__":{"a":1}}"#).starts_with("`__metadata__`: `a`: invalid type"));
    for tensor in ["1", "null", "[]", "\"F32\"", "{}"] {
        assert!(refused_header(&format!("{{\"w\":{tensor}}}")).starts_with("`w`: "), "{tensor}");
    }
}

#[test]
fn offsets_and_dimensions_that_are_no_sizes() {
    let hostile = [
        "-1",
        "-8",
        "-9223372036854775808",
        "18446744073709551616",
        "1e308",
        "1e999",
        "4.0",
        "0.5",
        "-0.0",
        "NaN",
        "Infinity",
        "\"4\"",
        "null",
        "true",
        "[]",
        "{}",
        "0x4",
        "+4",
        "04",
    ];
    for number in hostile {
        for offsets in [format!("[{number},4]"), format!("[0,{number}]")] {
            assert!(
                matches!(
                    refusal(&file(format!("{{{}}}", entry("w", "F32", "[1]", &offsets)), 4)),
                    HeaderError::Json(_)
                ),
                "{offsets}"
            );
        }
        assert!(matches!(
            refusal(&file(format!("{{{}}}", entry("w", "F32", &format!("[{number}]"), "[0,4]")), 4)),
            HeaderError::Json(_)
        ));
    }
    assert!(json_refusal("F32", "[1]", "[-8,4]").contains("integer `-8`"));
}

#[test]
fn offsets_of_another_number_than_two() {
    for offsets in ["[]", "[0]", "[0,4,4]", "4", "{\"start\":0,\"end\":4}"] {
        assert!(json_refusal("F32", "[1]", offsets).starts_with("`w`: "), "{offsets}");
    }
}

#[test]
fn shapes_of_more_dimensions_than_any() {
    let ones = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    assert_eq!(json_refusal("F32", &ones(33), "[0,4]"), "`w`: more than 32 dimensions");
    assert_eq!(json_refusal("F32", &ones(1_000_000), "[0,4]"), "`w`: more than 32 dimensions");
    assert!(Checkpoint::from_bytes(file(format!("{{{}}}", entry("w", "F32", &ones(32), "[0,4]")), 4)).is_ok());
}

#[test]
fn shapes_whose_product_leaves_the_integers() {
    let overflowing = [
        ("U8", "[9223372036854775808]"),             // 2^63 bytes, 2^66 bits
        ("U8", "[3037000500,3037000500]"),           // just above 2^63
        ("U8", "[18446744073709551615]"),            // 2^64 − 1
        ("U8", "[6700417,641,4294967297]"),          // 2^64 + 2^32 + … : wraps
        ("U8", "[274177,67280421310721]"),           // 2^64 + 1: wraps to 1
        ("U8", "[4294967296,4294967296]"),           // 2^64: wraps to 0
        ("F32", "[4611686018427387905]"),            // × 4 wraps to 4
        ("F32", "[2305843009213693952]"),            // 2^61: 2^66 bits
        ("F64", "[1,2,4,8,16,1152921504606846976]"), // overflows at the last dimension
        ("F32", "[9223372036854775808,0,2]"),        // a zero does not excuse it
        ("F32", "[0,9223372036854775808,2]"),
    ];
    for (dtype, shape) in overflowing {
        for (offsets, data) in [("[0,4]", 4), ("[0,0]", 0), ("[0,1]", 1)] {
            let refused = refused_tensor(dtype, shape, offsets, data);
            assert!(matches!(refused, HeaderError::Overflow { .. }), "{dtype} {shape}: {refused}");
        }
    }
}

#[test]
fn absurd_shapes_that_fit_the_integers_take_no_memory() {
    for shape in ["[2305843009213693951]", "[1073741824,1073741824]", "[1152921504606846976,1]"] {
        assert!(matches!(refused_tensor("U8", shape, "[0,4]", 4), HeaderError::Size { got: 4, .. }), "{shape}");
    }
    let all = "[0,2305843009213693951]";
    assert!(matches!(refused_tensor("U8", "[2305843009213693951]", all, 4), HeaderError::BeyondEnd { len: 4, .. }));
}

#[test]
fn a_dtype_nobody_knows() {
    for dtype in ["F31", "f32", "float32", "", "F32 ", "Q4_0"] {
        assert_eq!(
            refused_tensor(dtype, "[1]", "[0,4]", 4),
            HeaderError::Dtype { tensor: "w".into(), dtype: dtype.into() }
        );
    }
    for dtype in ["1", "-1", "null", "{\"F32\":null}"] {
        let header = format!(r#"{{"w":{{"dtype":{dtype},"shape":[1],"data_offsets":[0,4]}}}}"#);
        assert!(refused_header(&header).starts_with("`w`: invalid type"), "{dtype}");
    }
}

#[test]
fn numbers_that_end_within_a_byte() {
    let refused = refused_tensor("F4", "[3]", "[0,1]", 1);
    assert_eq!(refused, HeaderError::PartialByte { tensor: "w".into(), dtype: Dtype::F4, shape: vec![3] });
    assert!(Checkpoint::from_bytes(file(format!("{{{}}}", entry("w", "F4", "[4]", "[0,2]")), 2)).is_ok());
}

#[test]
fn a_tensor_larger_or_smaller_than_its_place() {
    for (shape, needed) in [("[1]", 4), ("[3]", 12), ("[0]", 0), ("[2,2]", 16), ("[]", 4)] {
        let refused = refused_tensor("F32", shape, "[0,8]", 8);
        assert!(matches!(refused, HeaderError::Size { needed: n, got: 8, .. } if n == needed), "{refused}");
    }
}

#[test]
fn a_tensor_that_ends_before_it_starts() {
    assert_eq!(
        refused_tensor("F32", "[1]", "[4,0]", 4),
        HeaderError::Reversed { tensor: "w".into(), start: 4, end: 0 }
    );
    assert!(matches!(refused_tensor("U8", "[1]", "[18446744073709551615,0]", 4), HeaderError::Reversed { .. }));
}

#[test]
fn a_tensor_that_reaches_beyond_the_file_by_one_byte_or_many() {
    for (size, data) in [(4, 3), (5, 4), (1 << 20, 4), (1 << 40, 4)] {
        let refused = refused_tensor("U8", &format!("[{size}]"), &format!("[0,{size}]"), data);
        assert_eq!(refused, HeaderError::BeyondEnd { tensor: "w".into(), end: size, len: data });
    }
}

#[test]
fn each_tensor_is_held_against_the_end_of_the_file() {
    // Three tensors; the file ends one byte early, within the second, and within the first.
    for (kept, culprit) in [(8, "c"), (5, "b"), (2, "a"), (0, "a")] {
        let mut bytes = bytes_named(&[("a", 3), ("b", 3), ("c", 3)]);
        bytes.truncate(bytes.len() - 9 + kept);
        assert!(
            matches!(refusal(&bytes), HeaderError::BeyondEnd { tensor, len, .. } if tensor == culprit && len == kept)
        );
    }
}

#[test]
fn a_gap_before_and_between_tensors() {
    assert_eq!(refused_tensor("U8", "[3]", "[1,4]", 4), HeaderError::Gap { tensor: "w".into(), start: 1, before: 0 });
    let header = format!("{{{},{}}}", entry("a", "U8", "[2]", "[0,2]"), entry("b", "U8", "[1]", "[3,4]"));
    assert_eq!(refusal(&file(header, 4)), HeaderError::Gap { tensor: "b".into(), start: 3, before: 2 });
}

#[test]
fn tensors_that_share_a_byte_or_everything() {
    for (offsets, shape, start) in [("[1,4]", "[3]", 1), ("[0,4]", "[4]", 0), ("[0,1]", "[1]", 0)] {
        let header = format!("{{{},{}}}", entry("a", "U8", "[2]", "[0,2]"), entry("b", "U8", shape, offsets));
        assert!(matches!(refusal(&file(header, 4)), HeaderError::Overlap { start: s, .. } if s == start), "{offsets}");
    }
}

#[test]
fn bytes_behind_the_last_tensor() {
    for extra in [1, 8, 4096] {
        assert_eq!(
            refusal(&file(format!("{{{}}}", entry("w", "U8", "[4]", "[0,4]")), 4 + extra)),
            HeaderError::Trailing { extra }
        );
        assert_eq!(refusal(&file("{}", extra)), HeaderError::Trailing { extra });
    }
}
