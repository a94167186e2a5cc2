//! Cases as Prometheus' own documentation and behaviour have them.

use super::*;

fn rule(action: RelabelAction) -> RelabelRule {
    RelabelRule {
        action,
        source_labels: vec![],
        separator: ";".into(),
        regex: "(.*)".into(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
    }
}

fn labels(pairs: &[(&'static str, &'static str)]) -> Labels<'static> {
    let mut labels = Labels::default();
    for (name, value) in pairs {
        labels.set(*name, *value);
    }
    labels
}

/// Labels after the rule, sorted; `None` if it drops.
fn applied(rule: RelabelRule, input: &[(&'static str, &'static str)]) -> Option<Vec<(String, String)>> {
    let mut set = labels(input);
    let outcome = Rules::compile(&[rule]).unwrap().apply(&mut set);
    set.sort();
    (outcome == Outcome::Keep).then(|| set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

const ABC: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];

#[test]
fn replace_fills_groups_into_target_and_replacement() {
    let source = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let cases: &[(RelabelRule, &[(&str, &str)])] = &[
        (
            RelabelRule {
                source_labels: source(&["a"]),
                regex: "f(.*)".into(),
                target_label: "d".into(),
                replacement: "ch${1}-ch${1}".into(),
                ..rule(RelabelAction::Replace)
            },
            &[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")],
        ),
        (
            RelabelRule {
                source_labels: source(&["a", "b"]),
                regex: "f(.*);(.*)r".into(),
                target_label: "a".into(),
                replacement: "b${1}${2}m".into(),
                ..rule(RelabelAction::Replace)
            },
            &[("a", "boobam"), ("b", "bar"), ("c", "baz")],
        ),
        (
            RelabelRule {
                source_labels: source(&["a"]),
                regex: "(f).*".into(),
                target_label: "$1".into(),
                replacement: "x".into(),
                ..rule(RelabelAction::Replace)
            },
            &[("a", "foo"), ("b", "bar"), ("c", "baz"), ("f", "x")],
        ),
        // No match: nothing happens.
        (
            RelabelRule {
                source_labels: source(&["a"]),
                regex: "o+".into(),
                target_label: "d".into(),
                ..rule(RelabelAction::Replace)
            },
            ABC,
        ),
        // An empty replacement deletes.
        (
            RelabelRule { target_label: "a".into(), replacement: String::new(), ..rule(RelabelAction::Replace) },
            &[("b", "bar"), ("c", "baz")],
        ),
        // A literal, and the whole match.
        (
            RelabelRule {
                source_labels: source(&["a"]),
                regex: "foo".into(),
                target_label: "d".into(),
                replacement: "<$0>".into(),
                ..rule(RelabelAction::Replace)
            },
            &[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "<foo>")],
        ),
        (
            RelabelRule {
                source_labels: source(&["a"]),
                target_label: "d".into(),
                replacement: "${1}!".into(),
                ..rule(RelabelAction::Replace)
            },
            &[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "foo!")],
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(applied(rule.clone(), ABC), pairs(expected), "{rule:?}");
    }
}

#[test]
fn keep_and_drop_look_at_the_joined_sources() {
    let with = |action, regex: &str| RelabelRule {
        source_labels: vec!["a".into(), "missing".into()],
        regex: regex.into(),
        ..rule(action)
    };
    assert!(applied(with(RelabelAction::Keep, "foo;"), ABC).is_some());
    assert!(applied(with(RelabelAction::Keep, "foo"), ABC).is_none(), "anchored");
    assert!(applied(with(RelabelAction::Drop, "f.*"), ABC).is_none());
    assert!(applied(with(RelabelAction::Drop, "o.*"), ABC).is_some(), "anchored");
    let multiline = RelabelRule { source_labels: vec!["a".into()], regex: "f.*r".into(), ..rule(RelabelAction::Keep) };
    assert!(applied(multiline, &[("a", "f\nr")]).is_some(), "a dot matches newlines");
}

#[test]
fn keepequal_and_dropequal_compare_with_the_target() {
    let with = |action| RelabelRule { source_labels: vec!["a".into()], target_label: "b".into(), ..rule(action) };
    let equal: &[(&str, &str)] = &[("a", "x"), ("b", "x")];
    assert!(applied(with(RelabelAction::KeepEqual), equal).is_some());
    assert!(applied(with(RelabelAction::KeepEqual), ABC).is_none());
    assert!(applied(with(RelabelAction::DropEqual), equal).is_none());
    assert!(applied(with(RelabelAction::DropEqual), ABC).is_some());
}

#[test]
fn hashmod_is_prometheus_hash() {
    let with = |sources: &[&str]| RelabelRule {
        source_labels: sources.iter().map(|name| (*name).to_owned()).collect(),
        target_label: "d".into(),
        modulus: 1000,
        ..rule(RelabelAction::HashMod)
    };
    // The values of Prometheus' own test table.
    assert_eq!(applied(with(&["c"]), ABC).unwrap()[3], ("d".to_owned(), "976".to_owned()));
    let multiline: &[(&str, &str)] = &[("a", "foo\nbar")];
    assert_eq!(applied(with(&["a"]), multiline).unwrap()[1], ("d".to_owned(), "734".to_owned()));
}

#[test]
fn names_are_mapped_dropped_and_kept() {
    let input: &[(&str, &str)] = &[("a", "foo"), ("b1", "bar"), ("b2", "baz")];
    let with = |action, regex: &str| RelabelRule { regex: regex.into(), ..rule(action) };
    let map = RelabelRule { replacement: "bar_${1}".into(), ..with(RelabelAction::LabelMap, "b(.*)") };
    assert_eq!(
        applied(map, input),
        pairs(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_1", "bar"), ("bar_2", "baz")])
    );
    assert_eq!(applied(with(RelabelAction::LabelDrop, "b.*"), input), pairs(&[("a", "foo")]));
    assert_eq!(applied(with(RelabelAction::LabelKeep, "b.*"), input), pairs(&[("b1", "bar"), ("b2", "baz")]));
}

#[test]
fn case_is_changed_into_the_target() {
    let with = |action| RelabelRule { source_labels: vec!["a".into()], target_label: "d".into(), ..rule(action) };
    let input: &[(&str, &str)] = &[("a", "bAr123Foo")];
    assert_eq!(applied(with(RelabelAction::Lowercase), input).unwrap()[1].1, "bar123foo");
    assert_eq!(applied(with(RelabelAction::Uppercase), input).unwrap()[1].1, "BAR123FOO");
}

#[test]
fn a_bad_rule_is_named() {
    let bad = [
        (
            RelabelRule { regex: "a(b".into(), target_label: "x".into(), ..rule(RelabelAction::Replace) },
            "rule 0: regex: unclosed group",
        ),
        (
            RelabelRule { target_label: "x".into(), ..rule(RelabelAction::HashMod) },
            "rule 0: action hashmod needs a modulus above 0",
        ),
        (rule(RelabelAction::Replace), "rule 0: this action needs target_label"),
    ];
    for (rule, message) in bad {
        assert_eq!(Rules::compile(&[rule]).unwrap_err(), message);
    }
}
