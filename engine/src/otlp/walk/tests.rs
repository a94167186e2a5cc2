use super::*;
use crate::otlp::wire::{put_bytes_field, put_fixed32_field, put_fixed64_field, put_message_field, put_varint_field};
use proptest::prelude::*;

/// Whether a request is valid; how far it extends has its own test.
fn validate(signal: Signal, request: &[u8]) -> Result<(), Malformed> {
    super::validate(signal, request).map(|_| ())
}

type Write<'w> = &'w dyn Fn(&mut Vec<u8>);

/// A request of one item: resource (1), scope (2), item (2).
fn request(item: Write<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| put_message_field(out, 2, |out| put_message_field(out, 2, item)));
    out
}

fn ids(out: &mut Vec<u8>) {
    put_bytes_field(out, 1, &[1; 16]);
    put_bytes_field(out, 2, &[2; 8]);
}

fn span(rest: Write<'_>) -> Vec<u8> {
    request(&|out| {
        ids(out);
        rest(out);
    })
}

/// An AnyValue with `lists` lists around a string.
fn nested_lists(lists: usize) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes_field(&mut value, any_value::STRING, b"x");
    for _ in 0..lists {
        let mut outer = Vec::new();
        put_message_field(&mut outer, any_value::ARRAY, |out| put_bytes_field(out, 1, &value));
        value = outer;
    }
    value
}

fn nested_maps(maps: usize) -> Vec<u8> {
    let mut value = Vec::new();
    put_varint_field(&mut value, any_value::INT, 1);
    for _ in 0..maps {
        let mut outer = Vec::new();
        put_message_field(&mut outer, any_value::KVLIST, |out| {
            put_message_field(out, 1, |out| put_bytes_field(out, VALUE, &value));
        });
        value = outer;
    }
    value
}

const UTF8: Result<(), Malformed> = Err(Malformed::Utf8);
const ID: Result<(), Malformed> = Err(Malformed::IdLength);
const TYPE: Result<(), Malformed> = Err(Malformed::Wire(WireError::WrongType));
const CUT: Result<(), Malformed> = Err(Malformed::Wire(WireError::Truncated));

#[test]
fn spans_are_checked() {
    let cases: &[(&str, Write<'_>, Result<(), Malformed>)] = &[
        ("nothing more", &|_| {}, Ok(())),
        ("empty parent", &|out| put_bytes_field(out, 4, b""), Ok(())),
        ("parent", &|out| put_bytes_field(out, 4, &[3; 8]), Ok(())),
        ("short parent", &|out| put_bytes_field(out, 4, &[3; 7]), ID),
        ("a second, wrong trace id", &|out| put_bytes_field(out, 1, &[3; 15]), ID),
        ("an empty span id", &|out| put_bytes_field(out, 2, b""), ID),
        ("unknown field", &|out| put_bytes_field(out, 99, b"\xff"), Ok(())),
        ("name that is no text", &|out| put_bytes_field(out, 5, b"\xff"), UTF8),
        ("name as a number", &|out| put_varint_field(out, 5, 1), TYPE),
        ("kind as a text", &|out| put_bytes_field(out, 6, b"x"), TYPE),
        ("time as a varint", &|out| put_varint_field(out, 7, 1), TYPE),
        ("flags", &|out| put_fixed32_field(out, 16, 1), Ok(())),
        ("flags as fixed64", &|out| put_fixed64_field(out, 16, 1), TYPE),
        ("attribute cut off", &|out| put_bytes_field(out, 9, &[0x0a, 5, b'k']), CUT),
        ("attribute as a number", &|out| put_varint_field(out, 9, 1), TYPE),
        ("key that is no text", &|out| put_bytes_field(out, 9, b"\x0a\x01\xff"), UTF8),
        ("bytes value that is no text", &|out| put_bytes_field(out, 9, b"\x12\x03\x3a\x01\xff"), Ok(())),
        ("string value that is no text", &|out| put_bytes_field(out, 9, b"\x12\x03\x0a\x01\xff"), UTF8),
        ("link without ids", &|out| put_bytes_field(out, 13, b""), ID),
        ("link", &|out| put_message_field(out, 13, ids), Ok(())),
        ("event name that is no text", &|out| put_message_field(out, 11, |out| put_bytes_field(out, 2, b"\xff")), UTF8),
        (
            "status twice, the second one bad",
            &|out| {
                put_message_field(out, 15, |out| put_bytes_field(out, 2, b"fine"));
                put_message_field(out, 15, |out| put_bytes_field(out, 2, b"\xff"));
            },
            UTF8,
        ),
    ];
    for (name, rest, expected) in cases {
        assert_eq!(validate(Signal::Traces, &span(rest)), *expected, "{name}");
    }
    assert_eq!(validate(Signal::Traces, &request(&|out| put_bytes_field(out, 1, &[1; 16]))), ID, "no span id");
}

#[test]
fn log_records_and_exemplars_need_no_ids() {
    for (length, expected) in [(0, Ok(())), (16, Ok(())), (15, ID)] {
        let log = request(&|out| put_bytes_field(out, 9, &vec![1; length]));
        assert_eq!(validate(Signal::Logs, &log), expected);
        let exemplar = request(&|out| {
            put_message_field(out, 5, |out| {
                put_message_field(out, 1, |out| {
                    put_message_field(out, 5, |out| put_bytes_field(out, 5, &vec![1; length]))
                });
            });
        });
        assert_eq!(validate(Signal::Metrics, &exemplar), expected);
    }
}

#[test]
fn repeated_numbers_may_be_packed_or_not() {
    let histogram =
        |point: Write<'_>| request(&|out| put_message_field(out, 9, |out| put_message_field(out, 1, point)));
    let buckets = |buckets: Write<'_>| {
        request(&|out| {
            put_message_field(out, 10, |out| put_message_field(out, 1, |out| put_message_field(out, 8, buckets)))
        })
    };
    for (request, expected) in [
        (histogram(&|out| put_bytes_field(out, 6, &[0; 16])), Ok(())),
        (histogram(&|out| put_fixed64_field(out, 6, 1)), Ok(())),
        (histogram(&|out| put_bytes_field(out, 6, &[0; 15])), CUT),
        (histogram(&|out| put_varint_field(out, 6, 1)), TYPE),
        (buckets(&|out| put_bytes_field(out, 2, &[1, 0x80, 1])), Ok(())),
        (buckets(&|out| put_varint_field(out, 2, 1)), Ok(())),
        (buckets(&|out| put_bytes_field(out, 2, &[0x80])), CUT),
        (buckets(&|out| put_fixed64_field(out, 2, 1)), TYPE),
    ] {
        assert_eq!(validate(Signal::Metrics, &request), expected);
    }
}

#[test]
fn values_may_nest_to_the_limit_and_no_deeper() {
    for nested in [nested_lists, nested_maps] {
        for (levels, expected) in
            [(MAX_DEPTH - 1, Ok(())), (MAX_DEPTH, Err(Malformed::TooDeep)), (5_000, Err(Malformed::TooDeep))]
        {
            let body = nested(levels);
            let log = request(&|out| put_bytes_field(out, 5, &body));
            assert_eq!(validate(Signal::Logs, &log), expected, "{levels}");
            let span = span(&|out| put_message_field(out, 9, |out| put_bytes_field(out, VALUE, &body)));
            assert_eq!(validate(Signal::Traces, &span), expected, "{levels}");
        }
    }
}

/// Writes down what it is offered.
#[derive(Default)]
struct Notes(Vec<String>);

impl<'a> Visitor<'a> for Notes {
    const EDITS: bool = true;

    fn attribute(&mut self, key: &'a [u8]) -> Fate {
        match key {
            b"keep" => Fate::Keep,
            b"replace" => Fate::Replace,
            b"remove" => Fate::Remove,
            _ => Fate::Walk,
        }
    }
    fn passes(&mut self, attribute: &'a [u8]) -> bool {
        plain_attribute(attribute).is_some_and(|(key, value)| key == b"pass" && value != Plain::Text(b"stop"))
    }
    fn keeps_unknown(&self) -> bool {
        false
    }
    fn begin(&mut self, unit: Unit, _content: Reader<'a>) -> Result<(), WireError> {
        if unit == Unit::Item {
            self.0.push("item".to_owned());
        }
        Ok(())
    }
    fn replacement(&mut self, _key: &'a [u8], _value: &Field<'a>) -> Cow<'static, [u8]> {
        self.0.push("edited".to_owned());
        Cow::Borrowed(b"\x0a\x01R")
    }
    fn removed(&mut self, _key: &'a [u8], _field: &Field<'a>) {
        self.0.push("edited".to_owned());
    }
    fn text(&mut self, at: At<'a>, field: &Field<'a>, text: &'a [u8], _edits: &mut EditList) {
        assert_eq!(field.bytes(), Ok(text));
        let key = at.key.map(String::from_utf8_lossy).unwrap_or_default();
        self.0.push(format!("{:?} {key}={}", at.place, String::from_utf8_lossy(text)));
    }
    fn number(&mut self, at: At<'a>, _field: &Field<'a>, number: Number, _edits: &mut EditList) {
        self.0.push(format!("{:?} {number:?}", at.place));
    }
}

fn key_value(out: &mut Vec<u8>, number: u32, key: &[u8], value: &[u8]) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, KEY, key);
        put_message_field(out, VALUE, |out| put_bytes_field(out, any_value::STRING, value));
    });
}

#[test]
fn only_what_does_not_pass_is_looked_at_closely() {
    let number = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
        put_message_field(out, 6, |out| {
            put_bytes_field(out, KEY, b"pass");
            put_message_field(out, VALUE, write);
        });
    };
    let log = request(&|out| {
        key_value(out, 6, b"pass", b"on");
        key_value(out, 6, b"pass", b"stop");
        number(out, &|out| put_varint_field(out, any_value::INT, 7));
        number(out, &|out| put_fixed64_field(out, any_value::DOUBLE, 0));
        // Not of the usual form: two values, a list, a key alone.
        number(out, &|out| {
            put_varint_field(out, any_value::INT, 8);
            put_varint_field(out, any_value::INT, 9);
        });
        number(out, &|out| put_message_field(out, any_value::ARRAY, |_| {}));
        put_message_field(out, 6, |out| put_bytes_field(out, KEY, b"pass"));
    });
    let mut notes = Notes::default();
    walk(Signal::Logs, &log, &mut notes, &mut EditList::default()).unwrap();
    let key = "AttributeKey pass=pass";
    let closely =
        ["item", key, "AttributeValue pass=stop", key, "AttributeValue Int(8)", "AttributeValue Int(9)", key, key];
    assert_eq!(notes.0, closely);
}

#[test]
fn values_are_offered_with_their_place_and_key() {
    let log = request(&|out| {
        put_bytes_field(out, 3, b"INFO");
        put_message_field(out, 5, |out| {
            put_message_field(out, any_value::KVLIST, |out| key_value(out, 1, b"inner", b"x"));
        });
        // the value stands before its key
        put_message_field(out, 6, |out| {
            put_message_field(out, VALUE, |out| put_varint_field(out, any_value::INT, 7));
            put_message_field(out, VALUE, |out| put_bytes_field(out, any_value::STRING, b"y"));
            put_bytes_field(out, KEY, b"late");
        });
        put_bytes_field(out, 12, b"login");
    });
    let mut notes = Notes::default();
    let mut edits = EditList::default();
    walk(Signal::Logs, &log, &mut notes, &mut edits).unwrap();
    assert_eq!(
        notes.0,
        [
            "item",
            "SeverityText =INFO",
            "AttributeKey inner=inner",
            "LogBody inner=x",
            "AttributeValue Int(7)",
            "AttributeValue late=y",
            "AttributeKey late=late",
            "EventName =login",
        ]
    );
    assert!(edits.is_empty());
}

#[test]
fn attributes_are_replaced_and_removed_whole_wherever_their_key_stands() {
    let written = |out: &mut Vec<u8>, replaced: bool| {
        ids(out);
        key_value(out, 9, b"a", b"1");
        if !replaced {
            key_value(out, 9, b"remove", b"2");
        }
        put_message_field(out, 9, |out| {
            put_bytes_field(out, VALUE, if replaced { b"\x0a\x01R" } else { b"\x0a\x06secret" });
            if !replaced {
                // merges into the value above
                put_bytes_field(out, VALUE, b"\x0a\x05again");
            }
            put_bytes_field(out, KEY, b"replace");
            put_bytes_field(out, KEY, b"b");
        });
    };
    let source = request(&|out| written(out, false));
    let mut notes = Notes::default();
    let mut edits = EditList::default();
    walk(Signal::Traces, &source, &mut notes, &mut edits).unwrap();
    assert_eq!(edits.apply(&source).into_owned(), request(&|out| written(out, true)));
    assert_eq!(notes.0.iter().filter(|note| *note == "edited").count(), 2);
}

#[test]
fn what_is_kept_is_not_offered_but_for_its_key() {
    let source = request(&|out| key_value(out, 6, b"keep", b"secret"));
    let mut notes = Notes::default();
    let mut edits = EditList::default();
    walk(Signal::Logs, &source, &mut notes, &mut edits).unwrap();
    assert_eq!(notes.0, ["item", "AttributeKey keep=keep"]);
    assert!(edits.is_empty());
}

#[test]
fn unknown_fields_go_at_every_level_if_the_visitor_wants_it() {
    let unknown = |out: &mut Vec<u8>, wanted: bool| {
        if wanted {
            put_bytes_field(out, 200, b"secret");
            put_varint_field(out, 16, 4_111_111_111_111_111);
        }
    };
    let written = |with: bool| {
        let mut out = Vec::new();
        put_message_field(&mut out, 1, |out| {
            put_message_field(out, 2, |out| {
                put_message_field(out, 2, |out| {
                    put_message_field(out, 5, |out| {
                        put_message_field(out, any_value::KVLIST, |out| {
                            put_message_field(out, 1, |out| {
                                put_bytes_field(out, KEY, b"k");
                                put_message_field(out, VALUE, |out| {
                                    put_message_field(out, any_value::ARRAY, |out| unknown(out, with));
                                    unknown(out, with);
                                });
                                unknown(out, with);
                            });
                            unknown(out, with);
                        });
                        unknown(out, with);
                    });
                    unknown(out, with);
                });
                unknown(out, with);
            });
            unknown(out, with);
        });
        unknown(&mut out, with);
        out
    };
    let source = written(true);
    let mut edits = EditList::default();
    walk(Signal::Logs, &source, &mut Notes::default(), &mut edits).unwrap();
    assert_eq!(edits.apply(&source).into_owned(), written(false));
}

#[test]
fn what_is_replaced_is_validated_all_the_same() {
    for key in [b"replace".as_slice(), b"remove", b"keep"] {
        let source = span(&|out| key_value(out, 9, key, b"\xff"));
        assert_eq!(walk(Signal::Traces, &source, &mut Notes::default(), &mut EditList::default()).map(|_| ()), UTF8);
        let deep = nested_maps(MAX_DEPTH);
        let source = span(&|out| {
            put_message_field(out, 9, |out| {
                put_bytes_field(out, KEY, key);
                put_bytes_field(out, VALUE, &deep);
            });
        });
        assert_eq!(
            walk(Signal::Traces, &source, &mut Notes::default(), &mut EditList::default()),
            Err(Malformed::TooDeep)
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x0a), Just(0x12), 0u8..12], 0..200)) {
        for signal in Signal::ALL {
            let validated = validate(signal, &bytes);
            let walked = walk(signal, &bytes, &mut Notes::default(), &mut EditList::default());
            prop_assert_eq!(validated.is_ok(), walked.is_ok());
        }
    }
}
