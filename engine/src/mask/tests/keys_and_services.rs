//! What an allow-list spares, and keys and services that are given twice.

use super::*;

fn allowing(keys: &[&str], services: &[&str], action: MaskAction) -> policy::Mask {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    policy::Mask { allow_keys: owned(keys), allow_services: owned(services), ..policy(action) }
}

/// A KeyValue with these keys, in order, then a string.
fn pair(keys: &[&str], value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    keys.iter().for_each(|key| put_bytes_field(&mut out, 1, key.as_bytes()));
    put_message_field(&mut out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    out
}

/// A request of one log record with these encoded attributes, of a resource with those.
fn request(resource: &[Vec<u8>], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| {
        // Of two occurrences of a resource, the attributes add up.
        resource.iter().for_each(|pair| put_message_field(out, 1, |out| put_bytes_field(out, 1, pair)));
        put_message_field(out, 2, |out| {
            put_message_field(out, 2, |out| attributes.iter().for_each(|pair| put_bytes_field(out, 6, pair)));
        });
    });
    out
}

fn holds(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

#[test]
fn an_allowed_key_spares_its_value_but_only_if_it_is_the_only_key() {
    let policy = allowing(&["note", "x-token"], &[], MaskAction::Redact);
    for (keys, spared) in [
        (vec!["note"], true),
        (vec!["NOTE"], true),
        (vec!["x-token"], true),
        (vec!["note", "note"], true),
        (vec!["notes"], false),
        (vec!["note", "other"], false),
        (vec!["other", "note"], false),
        (vec!["password", "note"], false),
    ] {
        let (after, _) = mask_by(&policy, Signal::Logs, &request(&[], &[pair(&keys, "bob@example.com")]));
        assert_eq!(holds(&after, "bob@example.com"), spared, "{keys:?}");
    }
}

#[test]
fn an_allowed_key_is_searched_itself() {
    let policy = allowing(&["*"], &[], MaskAction::Redact);
    let (after, _) = mask_by(&policy, Signal::Logs, &request(&[], &[pair(&["bob@example.com"], "x")]));
    assert!(holds(&after, "[email]") && !holds(&after, "bob@"));
}

#[test]
fn of_a_key_given_twice_the_harsher_rule_acts_and_is_counted() {
    for keys in [["password", "user"], ["user", "password"]] {
        for action in [MaskAction::Redact, MaskAction::Remove, MaskAction::DropItem] {
            let (after, masked) = mask_by(&policy(action), Signal::Logs, &request(&[], &[pair(&keys, "hunter2")]));
            assert!(!holds(&after, "hunter2"), "{keys:?}");
            assert_eq!(masked.counts.values, [1], "{keys:?} {action:?}");
            assert_eq!(masked.dropped.len(), usize::from(action == MaskAction::DropItem), "{keys:?}");
        }
    }
}

#[test]
fn a_service_is_spared_only_if_every_name_of_it_is_allowed() {
    let policy = allowing(&[], &["shop"], MaskAction::Redact);
    let name = |value: &str| pair(&["service.name"], value);
    for (resource, spared) in [
        (vec![name("shop")], true),
        (vec![name("shop"), name("shop")], true),
        (vec![], false),
        (vec![name("shop2")], false),
        (vec![name("Shop")], false),
        (vec![name("shop"), name("other")], false),
        (vec![name("other"), name("shop")], false),
        (vec![pair(&["service.name", "service"], "shop")], false),
        (vec![pair(&["service", "service.name"], "shop")], true),
    ] {
        let before = request(&resource, &[pair(&["password"], "hunter2"), pair(&["service.name"], "shop")]);
        let (after, _) = mask_by(&policy, Signal::Logs, &before);
        assert_eq!(after == before, spared, "{resource:?}");
    }
}

#[test]
fn a_spared_service_spares_no_other_one() {
    let policy = allowing(&[], &["shop"], MaskAction::Redact);
    let password = [pair(&["password"], "hunter2")];
    let mut both = request(&[pair(&["service.name"], "shop")], &password);
    let spared = both.len();
    both.extend(request(&[], &password));
    let (after, masked) = mask_by(&policy, Signal::Logs, &both);
    assert_eq!(after[..spared], both[..spared]);
    assert!(!holds(&after[spared..], "hunter2"));
    assert_eq!(masked.counts.values, [1]);
}

/// What an observer was told.
#[derive(Default)]
struct Told(Vec<(String, Option<String>, String, String)>);

impl Observer for Told {
    fn found(&mut self, found: &Found<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let key = found.at.key.filter(|_| found.key_is_clean).map(text);
        self.0.push((found.finder.to_owned(), key, text(found.before), text(found.after)));
    }
}

#[test]
fn an_observer_is_told_of_every_value_and_of_keys_without_secrets() {
    for (action, after) in [(MaskAction::Redact, "[redacted]"), (MaskAction::Remove, "")] {
        let masker = Masker::compile(&policy(action)).unwrap();
        let request = request(&[], &[pair(&["password"], "x"), pair(&["a@b.co"], "c@d.org"), pair(&["k"], "e@f.org")]);
        let mut told = Told::default();
        check_and_mask(Signal::Logs, &request, Some(&masker), None, &mut EditList::default(), Some(&mut told)).unwrap();
        let email = if action == MaskAction::Redact { "[email]" } else { "" };
        let row = |finder: &str, key: Option<&str>, before: &str, after: &str| {
            (finder.to_owned(), key.map(String::from), before.to_owned(), after.to_owned())
        };
        assert_eq!(
            told.0,
            [
                row("key", Some("password"), "x", after),
                row("email", None, "a@b.co", email),
                row("email", None, "c@d.org", email),
                row("email", Some("k"), "e@f.org", email),
            ]
        );
    }
}
