//! The policy table: what Python decided, in one versioned piece, as the engine reads it.
//!
//! Python compiles the configuration into this table (`gateway/policy/compiler.py`), serialises it as JSON and hands it
//! over with `Engine.apply`. These structs are the table's schema; each stage compiles its own part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::otlp::Signal;

/// One generation of everything the engine decides by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Grows by one with each reload.
    pub generation: u64,
    pub ack: Ack,
    pub batch: BatchLimits,
    /// Tried in order.
    pub identity: Vec<IdentityProvider>,
    #[serde(default)]
    pub tokens: TokenLimits,
    pub destinations: Vec<Destination>,
    /// Interned: tenants with equal settings share one.
    pub policies: Vec<TenantPolicy>,
    pub tenants: Vec<Tenant>,
}

/// When a request is answered OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// After Python has acknowledged the batch (it is committed to the queue).
    Durable,
    /// When the batch holds it.
    Memory,
}

/// When an open batch closes, whichever comes first.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLimits {
    pub max_bytes: usize,
    pub max_items: u64,
    pub max_age_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum IdentityProvider {
    /// A key in `header` (lower case), behind `scheme` ("Bearer", "Basic") or bare if there is none.
    ApiKey { header: String, scheme: Option<String> },
    /// A token in `header` that an identity provider judges (see `identify::tokens`), behind `scheme` or bare.
    Token { header: String, scheme: Option<String> },
    /// The tenant's name in `header`, from peers in `networks` (CIDR) or with a client certificate of one of these names.
    TrustedHeader { header: String, networks: Vec<String>, certificates: Vec<String> },
    /// A name of the verified client certificate is the tenant's, or holds it where `pattern` has its group.
    Mtls { tenant_from: TenantFrom, pattern: Option<String> },
    /// Whoever shows no credential at all is this tenant.
    Anonymous { tenant: String },
}

/// The bounds of judging tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLimits {
    /// Tokens that are remembered, believed and refused ones.
    pub max_believed: usize,
    pub max_refused: usize,
    /// How often the identity providers are asked, in all and because of one address.
    pub questions: Rate,
    pub questions_per_address: Rate,
}

/// Which names of a client certificate may be a tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantFrom {
    SanUri,
    SanDns,
    CommonName,
}

/// A destination as the engine needs it: a name and a wire format. Addresses are Python's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    pub name: String,
    pub encoding: Encoding,
    /// In how many parts a tenant's items are delivered side by side; what has an order is in one of them.
    #[serde(default = "one_shard")]
    pub shards: u16,
}

fn one_shard() -> u16 {
    1
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// `Export*ServiceRequest` protobuf, all signals.
    Otlp {},
    /// One OTLP JSON request a line, all signals.
    OtlpJson {},
    /// Prometheus `WriteRequest` 1.0, uncompressed; metrics only.
    RemoteWrite1 {
        /// Resource attributes that become labels of every series, besides `job`, `instance` and `tenant`.
        promote: Vec<String>,
    },
    /// Loki `PushRequest`, uncompressed; logs only.
    Loki {
        stream_labels: Vec<StreamLabel>,
        #[serde(default)]
        entries: LokiEntries,
    },
}

/// What a log line may hold on its way to Loki. Defaults are those of Loki's `limits_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LokiEntries {
    pub max_line_bytes: usize,
    pub long_lines: LongLines,
    /// Names and values of an entry's structured metadata together.
    pub max_metadata_bytes: usize,
    pub max_metadata_pairs: usize,
    pub log_form: LogForm,
}

impl Default for LokiEntries {
    fn default() -> LokiEntries {
        LokiEntries {
            max_line_bytes: 256 << 10,
            long_lines: LongLines::Cut,
            max_metadata_bytes: 64 << 10,
            max_metadata_pairs: 128,
            log_form: LogForm::Keep,
        }
    }
}

/// What becomes of a line over `max_line_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongLines {
    Cut,
    Split,
    Drop,
}

/// What becomes of a body that is a JSON log line (see `encode::loki::log_form`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogForm {
    /// It is a text like any other.
    Off,
    /// Its fields become metadata, the line stays as it is.
    Keep,
    /// Its fields become metadata, its message becomes the line.
    Message,
}

/// A Loki stream label and the resource attribute that it is taken from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamLabel {
    pub label: String,
    pub attribute: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub id: String,
    pub disabled: bool,
    pub api_keys: Vec<ApiKey>,
    /// Index into `Table::policies`.
    pub policy: usize,
}

/// A key is known by its SHA-256 only.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    pub id: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Names of the signals that it may send; `None`: all.
    #[serde(default)]
    pub signals: Option<Vec<String>>,
    /// Unix seconds.
    #[serde(default)]
    pub expires_at: Option<f64>,
}

/// What one tenant may send and what becomes of it. A signal that is `None` is not allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantPolicy {
    pub traces: Option<SignalPolicy>,
    pub metrics: Option<SignalPolicy>,
    pub logs: Option<SignalPolicy>,
    pub claims: Claims,
    /// Of all signals together.
    #[serde(default)]
    pub volume: VolumeLimits,
}

impl TenantPolicy {
    pub fn signal(&self, signal: Signal) -> Option<&SignalPolicy> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }
}

/// What happens to a payload that claims another tenant. Counted either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claims {
    Overwrite,
    Refuse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalPolicy {
    pub routes: Vec<Route>,
    pub quota: Quota,
    pub mask: Option<Mask>,
    pub relabel: Relabel,
    pub sample: Option<Sample>,
    /// Metrics only.
    #[serde(default)]
    pub series: Option<SeriesQuota>,
    /// Logs only, and only on their way to Loki.
    #[serde(default)]
    pub streams: Option<StreamQuota>,
}

/// A way to a destination, perhaps of some resources only. Regexes are RE2 and anchored, by attribute of the resource.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Index into `Table::destinations`.
    pub to: usize,
    /// All of them match.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// Not all of these match.
    #[serde(default)]
    pub unless: BTreeMap<String, String>,
}

/// How many series may be active.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesQuota {
    pub max_active: Option<u64>,
    pub new_per_minute: Option<f64>,
    /// How long a series stays active after its last point.
    pub window_s: u32,
    /// How many series over budget may be folded at a time; beyond it they are rejected.
    pub max_folded: usize,
}

/// How many log streams may be active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamQuota {
    pub max_active: u64,
    pub window_s: u32,
}

/// What a tenant may send of one signal; `None` is unlimited. A burst is how much may come at once after a rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    pub requests: Option<Rate>,
    pub items: Option<Rate>,
    pub bytes: Option<Rate>,
    /// Before and after decompression.
    pub max_request_bytes: Option<usize>,
    pub max_inflight_bytes: Option<u64>,
    pub volume: VolumeLimits,
    pub labels: LabelLimits,
    pub over_limit: OverLimit,
}

/// Bytes of uncompressed OTLP in a period that Python starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeLimits {
    pub daily_bytes: Option<u64>,
    pub monthly_bytes: Option<u64>,
}

/// Of each list of attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelLimits {
    pub max_attributes: Option<usize>,
    pub max_attribute_key_bytes: Option<usize>,
    pub max_attribute_value_bytes: Option<usize>,
}

/// What becomes of a request over a rate or volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverLimit {
    /// Refused whole, to be sent again.
    #[default]
    Reject,
    /// What fits is taken, the rest refused for good.
    Trim,
    /// Over `items`, a sample of the items is taken.
    Downsample,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

/// What must not leave, and what becomes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Of matches of the same text, the one of the first rule counts.
    pub rules: Vec<MaskRule>,
    /// Attribute keys whose values are left as they are.
    #[serde(default)]
    pub allow_keys: Vec<String>,
    /// Services (`service.name`) whose resources are left as they are.
    #[serde(default)]
    pub allow_services: Vec<String>,
    #[serde(default)]
    pub budget: MaskBudget,
    /// Count, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Which of the tenant's keys pseudonyms are made with.
    #[serde(default)]
    pub pseudonym_key: Option<String>,
}

/// What may be searched of one item (span, log record, point); beyond it values are removed unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskBudget {
    pub item_bytes: usize,
    pub item_us: u64,
}

impl Default for MaskBudget {
    fn default() -> MaskBudget {
        MaskBudget { item_bytes: 4 << 20, item_us: 100_000 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskRule {
    pub name: String,
    pub find: Find,
    pub action: MaskAction,
}

/// What a masking rule looks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Find {
    /// Keys whose whole value is masked; compared without case, `*` matches any run of characters.
    Keys(Vec<String>),
    /// Names of detectors.
    Detectors(Vec<String>),
    /// Countries (ISO 3166, two letters) whose passport numbers are looked for.
    Passports(Vec<String>),
    /// RE2 syntax; not anchored.
    Regex(String),
    /// Whole words.
    Literals { values: Vec<String>, ignore_case: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskAction {
    /// A found value becomes `[email]`, `[credit_card]`; the value of a sensitive key `[redacted]`.
    Redact,
    /// A found value is taken out of its string; an attribute with a sensitive key goes whole.
    Remove,
    /// All but the last four characters become stars.
    Partial,
    /// `h1:…`: a keyed hash, the same for the same value.
    Pseudonymise,
    /// Digits become other digits, by the key; of addresses, those of one network stay in one.
    FormatPreserving,
    /// The span, log record or point goes.
    DropItem,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relabel {
    /// On resource attributes.
    pub resource: Vec<RelabelRule>,
    /// On the final labels of each series (remote write only).
    pub series: Vec<RelabelRule>,
}

/// Prometheus' `relabel_config`, every field resolved to its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelabelRule {
    pub action: RelabelAction,
    pub source_labels: Vec<String>,
    pub separator: String,
    pub regex: String,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Share of traces to keep, 0 to 1.
    pub ratio: f64,
}
