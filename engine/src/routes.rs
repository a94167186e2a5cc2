//! Routes by attribute: which resources go to which destination.
//!
//! A route may have a condition on resource attributes, as they are after masking and relabelling. It is decided once a
//! resource; a request whose routes are all without condition is not looked at.

use std::ops::Range;

use crate::matcher::Matcher;
use crate::otlp::edit::EditList;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{Reader, WireError};
use crate::otlp::{count_resource_items, Signal, REQUEST_RESOURCES, RESOURCE, RESOURCE_ATTRIBUTES};
use crate::policy;

/// How many routes a signal of a tenant may have: what takes a resource is a set of bits.
pub const MAX_ROUTES: usize = u64::BITS as usize;

/// Which items a route takes.
#[derive(Debug)]
struct Condition {
    when: Vec<Match>,
    unless: Vec<Match>,
}

/// An attribute and what its value must be like; one that is not there has an empty value.
#[derive(Debug)]
struct Match {
    attribute: String,
    matcher: Matcher,
}

/// The conditions of one signal's routes, by index of the route.
#[derive(Debug, Default)]
pub struct Conditions {
    /// None: the route takes everything.
    routes: Vec<Option<Condition>>,
    /// The routes without one.
    unconditional: Takers,
}

/// A set of routes: a bit for the index of each.
type Takers = u64;
const ALL: Takers = Takers::MAX;

/// Who takes what of one request.
#[derive(Debug)]
pub struct Chosen(Vec<Entry>);

/// A top-level field.
#[derive(Debug)]
struct Entry {
    place: Range<usize>,
    takers: Takers,
    items: u64,
}

impl Conditions {
    /// The error says where in `routes` something is wrong, and what.
    pub fn compile(routes: &[policy::Route]) -> Result<Conditions, String> {
        if routes.len() > MAX_ROUTES {
            return Err(format!("routes: there are {}; {MAX_ROUTES} are possible", routes.len()));
        }
        let compiled = routes.iter().enumerate().map(|(index, route)| {
            if route.when.is_empty() && route.unless.is_empty() {
                return Ok(None);
            }
            let when = compile_all(&route.when).map_err(|error| format!("routes[{index}].when.{error}"))?;
            let unless = compile_all(&route.unless).map_err(|error| format!("routes[{index}].unless.{error}"))?;
            Ok(Some(Condition { when, unless }))
        });
        let routes = compiled.collect::<Result<Vec<_>, String>>()?;
        let unconditional =
            (0..routes.len()).filter(|&index| routes[index].is_none()).fold(0, |set, index| set | 1 << index);
        Ok(Conditions { routes, unconditional })
    }

    /// Whether the route takes everything.
    pub fn takes_all(&self, route: usize) -> bool {
        self.unconditional & 1 << route != 0
    }

    /// Whether every route takes everything.
    pub fn take_all(&self) -> bool {
        self.routes.iter().all(Option::is_none)
    }

    /// Whether there can be items that no route takes.
    pub fn may_leave_out(&self) -> bool {
        self.unconditional == 0
    }

    /// Removes the resources that no route takes; returns how many items went. `edits` must be empty.
    pub fn leave_out(&self, signal: Signal, request: &[u8], edits: &mut EditList) -> Result<u64, WireError> {
        let mut left_out = 0;
        let mut requests = Reader::new(request);
        while let Some(field) = requests.next_field()? {
            if field.number != REQUEST_RESOURCES {
                continue;
            }
            let entry = requests.nested(&field)?;
            if self.takers(entry)? == 0 {
                left_out += count_resource_items(signal, entry)?;
                edits.remove(&field);
            }
        }
        Ok(left_out)
    }

    /// Who takes what of a request; `None`: every route takes all of it, whatever it is.
    pub fn choose(&self, signal: Signal, request: &[u8]) -> Result<Option<Chosen>, WireError> {
        if self.take_all() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        let mut requests = Reader::new(request);
        while let Some(field) = requests.next_field()? {
            // What nobody knows goes everywhere.
            let (mut takers, mut items) = (ALL, 0);
            if field.number == REQUEST_RESOURCES {
                let entry = requests.nested(&field)?;
                takers = self.takers(entry)?;
                items = count_resource_items(signal, entry)?;
            }
            entries.push(Entry { place: field.start..field.end, takers, items });
        }
        Ok(Some(Chosen(entries)))
    }

    fn takers(&self, entry: Reader<'_>) -> Result<Takers, WireError> {
        let attributes = attributes(entry)?;
        let mut takers = self.unconditional;
        for (index, condition) in self.routes.iter().enumerate() {
            if let Some(condition) = condition {
                takers |= Takers::from(condition.takes(&attributes)?) << index;
            }
        }
        Ok(takers)
    }
}

impl Chosen {
    /// What one route gets of the request, and how many items it does not get; `None`: it gets all.
    pub fn part(&self, route: usize, request: &[u8]) -> Option<(Vec<u8>, u64)> {
        let takes = |entry: &&Entry| entry.takers & 1 << route != 0;
        if self.0.iter().all(|entry| takes(&entry)) {
            return None;
        }
        let part: Vec<&[u8]> = self.0.iter().filter(takes).map(|entry| &request[entry.place.clone()]).collect();
        let others = self.0.iter().filter(|entry| !takes(entry)).map(|entry| entry.items).sum();
        Some((part.concat(), others))
    }

    /// What no route takes goes to all of them.
    pub fn leaving_out_nothing(mut self) -> Chosen {
        self.0.iter_mut().filter(|entry| entry.takers == 0).for_each(|entry| entry.takers = ALL);
        self
    }
}

impl Condition {
    fn takes(&self, attributes: &[KeyValue<'_>]) -> Result<bool, WireError> {
        Ok(all_match(&self.when, attributes)? && (self.unless.is_empty() || !all_match(&self.unless, attributes)?))
    }
}

fn compile_all<'r>(wanted: impl IntoIterator<Item = (&'r String, &'r String)>) -> Result<Vec<Match>, String> {
    let compiled = wanted.into_iter().map(|(attribute, regex)| {
        let matcher = Matcher::compile(regex).map_err(|error| format!("{attribute}: {error}"))?;
        Ok(Match { attribute: attribute.clone(), matcher })
    });
    compiled.collect()
}

fn all_match(matches: &[Match], attributes: &[KeyValue<'_>]) -> Result<bool, WireError> {
    for Match { attribute, matcher } in matches {
        // Of an attribute that is there twice the last counts, as for relabelling.
        let found = attributes.iter().rfind(|pair| pair.key == attribute.as_bytes());
        let is_match = match found {
            Some(pair) => matcher.is_match(&pair.value.text()?),
            None => matcher.is_match(""),
        };
        if !is_match {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of the resource; one that is given twice is one (protobuf merge).
fn attributes<'a>(mut entry: Reader<'a>) -> Result<Vec<KeyValue<'a>>, WireError> {
    let mut attributes = Vec::new();
    while let Some(resource) = entry.next_field()? {
        if resource.number != RESOURCE {
            continue;
        }
        let mut fields = entry.nested(&resource)?;
        while let Some(field) = fields.next_field()? {
            if field.number == RESOURCE_ATTRIBUTES {
                attributes.push(KeyValue::read(field.bytes()?)?);
            }
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue as Pair};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    fn attribute(key: &str, value: Value) -> Pair {
        Pair { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
    }

    fn text(key: &str, value: &str) -> Pair {
        attribute(key, Value::StringValue(value.into()))
    }

    /// `records` of a resource with these attributes.
    fn entry(attributes: Vec<Pair>, records: usize) -> ResourceLogs {
        let log_records = vec![LogRecord::default(); records];
        ResourceLogs {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
            ..Default::default()
        }
    }

    fn request(entries: Vec<ResourceLogs>) -> Vec<u8> {
        ExportLogsServiceRequest { resource_logs: entries }.encode_to_vec()
    }

    fn route(when: &[(&str, &str)], unless: &[(&str, &str)]) -> policy::Route {
        let owned =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, regex)| (key.to_string(), regex.to_string())).collect();
        policy::Route { to: 0, when: owned(when), unless: owned(unless) }
    }

    fn takes(route: policy::Route, attributes: Vec<Pair>) -> bool {
        let conditions = Conditions::compile(&[route]).unwrap();
        let bytes = request(vec![entry(attributes, 1)]);
        conditions.choose(Signal::Logs, &bytes).unwrap().is_none_or(|chosen| chosen.part(0, &bytes).is_none())
    }

    #[test]
    fn a_condition_is_about_whole_values_of_all_its_attributes() {
        let shop = || vec![text("service.name", "shop"), text("env", "prod"), attribute("pid", Value::IntValue(42))];
        for (when, unless, taken) in [
            (&[][..], &[][..], true),
            (&[("service.name", "shop")], &[], true),
            (&[("service.name", "sho")], &[], false),
            (&[("service.name", "s.*"), ("env", "prod|test")], &[], true),
            (&[("service.name", "s.*"), ("env", "test")], &[], false),
            (&[("pid", "[0-9]+")], &[], true),
            (&[("region", "")], &[], true),
            (&[("region", ".+")], &[], false),
            (&[("region", ".*")], &[], true),
            (&[], &[("env", "prod")], false),
            (&[], &[("env", "prod"), ("service.name", "other")], true),
            (&[("service.name", "shop")], &[("env", "prod")], false),
            (&[("service.name", "shop")], &[("env", "test")], true),
        ] {
            assert_eq!(takes(route(when, unless), shop()), taken, "{when:?} {unless:?}");
        }
        assert!(takes(route(&[("env", "b")], &[]), vec![text("env", "a"), text("env", "b")]), "the last one counts");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = Conditions::compile(&[route(&[], &[]), route(&[], &[("env", "(")])]).unwrap_err();
        assert_eq!(error, "routes[1].unless.env: unclosed group");
        let many = vec![route(&[], &[]); MAX_ROUTES + 1];
        assert_eq!(Conditions::compile(&many).unwrap_err(), "routes: there are 65; 64 are possible");
    }

    proptest! {
        #[test]
        fn every_resource_goes_where_its_attributes_say_in_order(teams in vec((0usize..4, 0usize..3), 0..12)) {
            // Route 0 takes team 0, route 1 teams 0 and 1, route 2 everything but team 2.
            let routes = [
                route(&[("team", "t0")], &[]),
                route(&[("team", "t[01]")], &[]),
                route(&[], &[("team", "t2")]),
            ];
            let wanted = [&[0][..], &[0, 1], &[0, 1, 3]];
            let entries = |teams: &[(usize, usize)]| {
                request(teams.iter().map(|(team, records)| entry(vec![text("team", &format!("t{team}"))], *records)).collect())
            };
            let of = |wanted: &[usize]| -> Vec<_> {
                teams.iter().copied().filter(|(team, _)| wanted.contains(team)).collect()
            };
            let bytes = entries(&teams);
            let conditions = Conditions::compile(&routes).unwrap();
            let chosen = conditions.choose(Signal::Logs, &bytes).unwrap().unwrap();
            let total: usize = teams.iter().map(|(_, records)| records).sum();
            for (index, wanted) in wanted.iter().enumerate() {
                let expected = of(wanted);
                let records: usize = expected.iter().map(|(_, records)| records).sum();
                match chosen.part(index, &bytes) {
                    Some((part, others)) => {
                        prop_assert_eq!(part, entries(&expected));
                        prop_assert_eq!(others as usize, total - records);
                    }
                    None => prop_assert_eq!(expected.len(), teams.len()),
                }
            }
            let mut edits = EditList::default();
            prop_assert!(conditions.may_leave_out());
            let left_out = conditions.leave_out(Signal::Logs, &bytes, &mut edits).unwrap();
            prop_assert_eq!(left_out as usize, of(&[2]).iter().map(|(_, records)| records).sum::<usize>());
            prop_assert_eq!(edits.apply(&bytes).into_owned(), entries(&of(&[0, 1, 3])));
            let everywhere = chosen.leaving_out_nothing();
            let part = everywhere.part(0, &bytes).map(|(part, _)| part).unwrap_or(bytes.clone());
            prop_assert_eq!(part, entries(&of(&[0, 2])));
        }

        #[test]
        fn a_route_without_condition_gets_the_request_as_it_is(bytes in vec(any::<u8>(), 0..200)) {
            // Not even read: the walk before has validated it.
            let alone = Conditions::compile(&[route(&[], &[]), route(&[], &[])]).unwrap();
            prop_assert!(alone.choose(Signal::Logs, &bytes).unwrap().is_none() && !alone.may_leave_out());
            let beside = Conditions::compile(&[route(&[], &[]), route(&[("team", "t0")], &[])]).unwrap();
            prop_assert!(beside.takes_all(0) && !beside.takes_all(1) && !beside.may_leave_out());
            if let Ok(Some(chosen)) = beside.choose(Signal::Logs, &bytes) {
                prop_assert!(chosen.part(0, &bytes).is_none());
            }
        }
    }
}
