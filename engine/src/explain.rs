//! What masking does to one request, value by value, for a person to read.

use serde::Serialize;

use crate::generation::Generation;
use crate::mask::{check_and_mask, Found, Observer, PseudonymKeys};
use crate::otlp::edit::EditList;
use crate::otlp::json::path_of;
use crate::otlp::Signal;
use crate::policy::MaskAction;

/// One masked value.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// As OTLP/JSON names its field.
    pub path: String,
    pub place: &'static str,
    /// The attribute's key, unless something is masked in it.
    pub key: Option<String>,
    /// Index and name of the rule.
    pub rule: usize,
    pub rule_name: String,
    /// `key`, a detector, or the rule's name.
    pub finder: String,
    pub action: MaskAction,
    pub before: String,
    pub after: String,
}

struct Explaining<'r> {
    signal: Signal,
    request: &'r [u8],
    values: Vec<Explained>,
}

impl Observer for Explaining<'_> {
    fn found(&mut self, found: &Found<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The walk has been here: the path can be read.
        let path = path_of(self.signal, self.request, found.offset).unwrap_or_default();
        self.values.push(Explained {
            path,
            place: found.at.place.name(),
            key: found.at.key.filter(|_| found.key_is_clean).map(text),
            rule: found.rule,
            rule_name: found.name.to_owned(),
            finder: found.finder.to_owned(),
            action: found.action,
            before: text(found.before),
            after: text(found.after),
        });
    }
}

/// The masked values of an uncompressed protobuf `Export*ServiceRequest` of `tenant`, in order, also in a dry run.
///
/// The error says what is wrong with the request, or that there is no such tenant.
pub fn explain(
    generation: &Generation,
    keys: &PseudonymKeys,
    tenant: &str,
    signal: Signal,
    request: &[u8],
) -> Result<Vec<Explained>, String> {
    let known = generation.tenants.iter().find(|known| *known.state.id == *tenant);
    let known = known.ok_or_else(|| format!("there is no tenant {tenant}"))?;
    let rules = known.rules(signal).ok_or_else(|| format!("the tenant may not send {}", signal.name()))?;
    let masker = rules.masker.as_ref();
    let key = masker.and_then(|masker| keys.get(masker.pseudonym_key.as_deref()?, tenant));
    let mut explaining = Explaining { signal, request, values: Vec::new() };
    check_and_mask(signal, request, masker, key, &mut EditList::default(), Some(&mut explaining))
        .map_err(|error| error.to_string())?;
    Ok(explaining.values)
}
