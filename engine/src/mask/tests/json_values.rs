//! JSON in a text stays JSON, whatever is found in it and whatever the action makes of it.

use super::*;
use rule_order::body_by;
use serde_json::{json, Value as Json};

fn json_strategy() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!("bob@example.com")),
        Just(json!(4_111_111_111_111_111_u64)),
        Just(json!("x 4111 1111 1111 1111, y")),
        Just(json!("")),
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(-1.5)),
        Just(json!("a \"quoted\" TICKET-12 \\ text")),
        Just(json!("hunter2")),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        let key = prop_oneof!["[a-c]", Just("password".to_owned()), Just("x_token".to_owned()), Just("n".to_owned())];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::hash_map(key, inner.clone(), 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
            inner.prop_map(|value| Json::String(value.to_string())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn json_stays_json_and_loses_its_secrets(inner in json_strategy(), pretty: bool) {
        let value = json!({ "body": inner });
        let before = if pretty { format!("{value:#}") } else { value.to_string() };
        for action in [MaskAction::Redact, MaskAction::Remove, MaskAction::Partial, MaskAction::Pseudonymise, MaskAction::FormatPreserving] {
            let Value::StringValue(after) = body_by(&everything(action), text(&before)).0 else { panic!() };
            prop_assert!(serde_json::from_str::<Json>(&after).is_ok(), "{:?}: {} became {}", action, before, after);
            for secret in ["bob@example.com", "4111111111111111", "4111 1111 1111 1111"] {
                prop_assert!(!after.contains(secret), "{:?}: {} became {}", action, before, after);
            }
        }
    }
}

#[test]
fn a_number_with_a_fraction_is_quoted_too() {
    let policy = policy_of(vec![rule("place", Find::Regex(r"-?\d+\.\d+".to_owned()), MaskAction::Redact)]);
    for (before, after) in [
        (r#"{"lat":52.5200,"n":1}"#, r#"{"lat":"[place]","n":1}"#),
        (r#"{"at":[-52.52,13.40]}"#, r#"{"at":["[place]","[place]"]}"#),
        ("at 52.52", "at [place]"),
    ] {
        assert_eq!(body_by(&policy, text(before)).0, text(after), "{before}");
    }
}

#[test]
fn an_empty_value_of_a_key_is_replaced_once() {
    for (before, after) in [
        (r#"{"password":""}"#, r#"{"password":"[redacted]"}"#),
        (r#"{"password":"", "a":1}"#, r#"{"password":"[redacted]", "a":1}"#),
    ] {
        let (body, counts) = body_by(&policy(MaskAction::Redact), text(before));
        assert_eq!((body, counts.values), (text(after), vec![1]));
    }
}
