//! One policy generation, compiled: immutable, swapped whole, never changed under a request.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use std::sync::Mutex;

use crate::admit::inflight::Inflight;
use crate::admit::series::ActiveState;
use crate::admit::volume::Volume;
use crate::admit::Budget;
use crate::encode::loki::LokiEncoder;
use crate::encode::remote_write::RemoteWriteEncoder;
use crate::encode::split::Format;
use crate::identify::Identity;
use crate::lane::Lane;
use crate::ledger::IntakeCell;
use crate::lock::lock;
use crate::mask::Masker;
use crate::otlp::Signal;
use crate::policy::{
    self, Ack, Claims, Encoding, OverLimit, Quota, SeriesQuota, SignalPolicy, StreamQuota, Table, VolumeLimits,
};
use crate::relabel::Rules;
use crate::routes::Conditions;
use crate::sample::RatioSampler;

/// More requests than these at a time no tenant has under way at one destination.
const MAX_SHARDS: u16 = 64;

/// How one destination wants its items.
pub enum Encoder {
    Otlp,
    OtlpJson,
    RemoteWrite(RemoteWriteEncoder),
    Loki(LokiEncoder),
}

impl Encoder {
    fn compile(encoding: &Encoding) -> Encoder {
        match encoding {
            Encoding::Otlp {} => Encoder::Otlp,
            Encoding::OtlpJson {} => Encoder::OtlpJson,
            Encoding::RemoteWrite1 { promote } => Encoder::RemoteWrite(RemoteWriteEncoder::new(promote)),
            Encoding::Loki { stream_labels, entries } => Encoder::Loki(LokiEncoder::new(stream_labels, *entries)),
        }
    }

    /// Of what it writes for the signal, as far as that can be taken apart.
    pub fn format(&self, signal: Signal) -> Option<Format> {
        match self {
            Encoder::Otlp => Some(Format::Otlp(signal)),
            Encoder::OtlpJson => None,
            Encoder::RemoteWrite(_) => Some(Format::RemoteWrite),
            Encoder::Loki(_) => Some(Format::Loki),
        }
    }

    fn carries(&self, signal: Signal) -> bool {
        match self {
            Encoder::Otlp | Encoder::OtlpJson => true,
            Encoder::RemoteWrite(_) => signal == Signal::Metrics,
            Encoder::Loki(_) => signal == Signal::Logs,
        }
    }
}

/// A destination as all tenants share it.
struct Destination {
    name: Arc<str>,
    encoder: Arc<Encoder>,
    shards: u16,
}

impl Destination {
    fn compile(spec: &policy::Destination) -> Result<Destination, String> {
        let encoder = Encoder::compile(&spec.encoding);
        // Lines of JSON have an order of their own.
        let max = if matches!(encoder, Encoder::OtlpJson) { 1 } else { MAX_SHARDS };
        if !(1..=max).contains(&spec.shards) {
            return Err(format!("destinations: {} has {} shards; 1 to {max} are possible", spec.name, spec.shards));
        }
        Ok(Destination { name: Arc::from(spec.name.as_str()), encoder: Arc::new(encoder), shards: spec.shards })
    }
}

/// What becomes of one signal of one tenant.
pub struct SignalRules {
    pub masker: Option<Masker>,
    pub resource_rules: Rules,
    pub series_rules: Rules,
    pub sampler: Option<RatioSampler>,
    pub quota: Quota,
    pub series_quota: Option<SeriesQuota>,
    pub stream_quota: Option<StreamQuota>,
    /// How series are named, by all destinations of the signal together: what the series budget counts.
    pub series_names: RemoteWriteEncoder,
    /// The route, if there is one, that takes everything and names series just so: index into [`Tenant::routes`].
    pub counting_route: Option<usize>,
    /// Which of [`Tenant::routes`] takes what.
    pub conditions: Conditions,
    /// Indices into the generation's destinations.
    routes: Vec<usize>,
}

/// The rules that tenants with equal settings share.
struct TenantRules {
    signals: [Option<SignalRules>; 3],
    claims: Claims,
    volume: VolumeLimits,
}

/// One way out: a destination's encoder and the open batches that it fills.
pub struct Route {
    pub encoder: Arc<Encoder>,
    pub lane: Lane,
}

/// A tenant under this generation.
pub struct Tenant {
    pub state: Arc<TenantState>,
    pub disabled: bool,
    rules: Arc<TenantRules>,
    routes: [Vec<Route>; 3],
}

impl Tenant {
    /// `None`: the signal is not allowed.
    pub fn rules(&self, signal: Signal) -> Option<&SignalRules> {
        self.rules.signals[signal.index()].as_ref()
    }

    pub fn routes(&self, signal: Signal) -> &[Route] {
        &self.routes[signal.index()]
    }

    pub fn claims(&self) -> Claims {
        self.rules.claims
    }
}

/// By destination and signal, with every shard that any generation had.
type Lanes = HashMap<(Arc<str>, Signal), Lane>;

/// What outlives generations: counters, the fill of token buckets, active series, open batches.
pub struct TenantState {
    pub id: Arc<str>,
    pub intake: [Arc<IntakeCell>; 3],
    pub budgets: [Budget; 3],
    pub volume: Volume,
    /// Bytes in flight of each signal.
    pub inflight: [Arc<Inflight>; 3],
    /// Active series and log streams.
    pub active: ActiveState,
    /// Why new requests are refused for now.
    pub gate: ArcSwapOption<String>,
    lanes: Mutex<Lanes>,
}

impl TenantState {
    fn new(id: &str, active: ActiveState) -> TenantState {
        TenantState {
            id: Arc::from(id),
            intake: Signal::ALL.map(|_| Arc::new(IntakeCell::default())),
            budgets: Signal::ALL.map(|_| Budget::new(&Quota::default())),
            volume: Volume::default(),
            inflight: Signal::ALL.map(|_| Arc::new(Inflight::new(u64::MAX))),
            active,
            gate: ArcSwapOption::empty(),
            lanes: Mutex::default(),
        }
    }

    fn lane(&self, destination: &Arc<str>, signal: Signal, shards: u16) -> Lane {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry((Arc::clone(destination), signal));
        lane.or_insert_with(|| Lane::new(&self.id, destination, signal)).of_shards(shards)
    }

    pub fn lanes(&self) -> Vec<Lane> {
        lock(&self.lanes).values().cloned().collect()
    }
}

/// Every tenant ever configured since the start, so that its counters never go back.
#[derive(Default)]
pub struct TenantStates(Mutex<HashMap<String, Arc<TenantState>>>);

impl TenantStates {
    pub fn get(&self, id: &str) -> Arc<TenantState> {
        let mut states = lock(&self.0);
        Arc::clone(
            states.entry(id.to_owned()).or_insert_with(|| Arc::new(TenantState::new(id, ActiveState::default()))),
        )
    }

    /// A tenant with what a former run knew of it; false, and nothing, if it is there already.
    pub fn restore(&self, id: &str, active: ActiveState) -> bool {
        let mut states = lock(&self.0);
        let vacant = !states.contains_key(id);
        if vacant {
            states.insert(id.to_owned(), Arc::new(TenantState::new(id, active)));
        }
        vacant
    }

    pub fn find(&self, id: &str) -> Option<Arc<TenantState>> {
        lock(&self.0).get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<TenantState>> {
        lock(&self.0).values().cloned().collect()
    }
}

/// One generation of everything that requests are decided by.
pub struct Generation {
    pub number: u64,
    pub ack: Ack,
    pub identity: Identity,
    pub tenants: Vec<Tenant>,
}

impl Generation {
    /// The generation before the first `apply`: nobody is known.
    pub fn empty() -> Generation {
        Generation { number: 0, ack: Ack::Durable, identity: Identity::nobody(), tenants: Vec::new() }
    }

    /// Compiles a table. Nothing is changed if it fails; the error says where and what.
    pub fn compile(table: &Table, states: &TenantStates) -> Result<Generation, String> {
        let identity = Identity::compile(&table.identity, &table.tenants)?;
        let destinations = table.destinations.iter().map(Destination::compile).collect::<Result<Vec<_>, _>>()?;
        let mut policies = Vec::with_capacity(table.policies.len());
        for (index, policy) in table.policies.iter().enumerate() {
            let mut signals = [None, None, None];
            for signal in Signal::ALL {
                if let Some(spec) = policy.signal(signal) {
                    let rules = compile_signal(signal, spec, &destinations)
                        .map_err(|error| format!("policies[{index}].{}.{error}", signal.name()))?;
                    signals[signal.index()] = Some(rules);
                }
            }
            policies.push(Arc::new(TenantRules { signals, claims: policy.claims, volume: policy.volume }));
        }
        // Fallible work first: only a table that compiles whole may touch the tenants' lasting state.
        for tenant in &table.tenants {
            if tenant.policy >= policies.len() {
                return Err(format!("tenant {}: there is no policy {}", tenant.id, tenant.policy));
            }
        }
        let mut tenants = Vec::with_capacity(table.tenants.len());
        for spec in &table.tenants {
            let rules = Arc::clone(&policies[spec.policy]);
            let state = states.get(&spec.id);
            let mut routes = [Vec::new(), Vec::new(), Vec::new()];
            for signal in Signal::ALL {
                let Some(signal_rules) = &rules.signals[signal.index()] else { continue };
                for &index in &signal_rules.routes {
                    let Destination { name, encoder, shards } = &destinations[index];
                    let lane = state.lane(name, signal, *shards);
                    routes[signal.index()].push(Route { encoder: Arc::clone(encoder), lane });
                }
            }
            tenants.push(Tenant { state, disabled: spec.disabled, rules, routes });
        }
        Ok(Generation { number: table.generation, ack: table.ack, identity, tenants })
    }

    /// Gives the tenants' budgets this generation's limits; they keep their fill.
    pub fn update_budgets(&self, now_ns: u64) {
        for tenant in &self.tenants {
            tenant.state.volume.limit(tenant.rules.volume);
            for signal in Signal::ALL {
                if let Some(rules) = tenant.rules(signal) {
                    tenant.state.budgets[signal.index()].update(now_ns, &rules.quota);
                    tenant.state.inflight[signal.index()].set_max(rules.quota.max_inflight_bytes.unwrap_or(u64::MAX));
                }
            }
            let series = tenant.rules(Signal::Metrics).and_then(|rules| rules.series_quota.as_ref());
            let streams = tenant.rules(Signal::Logs).and_then(|rules| rules.stream_quota.as_ref());
            tenant.state.active.update(now_ns, series, streams);
        }
    }
}

fn compile_signal(signal: Signal, spec: &SignalPolicy, destinations: &[Destination]) -> Result<SignalRules, String> {
    let conditions = Conditions::compile(&spec.routes)?;
    let routes: Vec<usize> = spec.routes.iter().map(|route| route.to).collect();
    for &route in &routes {
        let destination = destinations.get(route).ok_or_else(|| format!("routes: there is no destination {route}"))?;
        if !destination.encoder.carries(signal) {
            return Err(format!("routes: destination {} cannot carry {}", destination.name, signal.name()));
        }
    }
    if signal == Signal::Metrics && spec.quota.over_limit == OverLimit::Downsample {
        return Err("quota.over_limit: points cannot be downsampled; use reject or trim".to_owned());
    }
    let masker = match &spec.mask {
        Some(mask) => Some(Masker::compile(mask).map_err(|error| format!("mask: {error}"))?),
        None => None,
    };
    let sampler = match &spec.sample {
        Some(sample) => Some(RatioSampler::compile(sample).map_err(|error| format!("sample: {error}"))?),
        None => None,
    };
    let remote_write = |route: &usize| match destinations[*route].encoder.as_ref() {
        Encoder::RemoteWrite(encoder) => Some(encoder),
        Encoder::Otlp | Encoder::OtlpJson | Encoder::Loki(_) => None,
    };
    let series_names = RemoteWriteEncoder::union(routes.iter().filter_map(remote_write));
    let counts = |index: usize| conditions.takes_all(index) && remote_write(&routes[index]) == Some(&series_names);
    let counting_route = (0..routes.len()).find(|&index| counts(index));
    Ok(SignalRules {
        masker,
        resource_rules: Rules::compile(&spec.relabel.resource).map_err(|error| format!("relabel.resource: {error}"))?,
        series_rules: Rules::compile(&spec.relabel.series).map_err(|error| format!("relabel.series: {error}"))?,
        sampler,
        quota: spec.quota,
        series_quota: spec.series.filter(|_| signal == Signal::Metrics),
        stream_quota: spec.streams.filter(|_| signal == Signal::Logs),
        counting_route,
        series_names,
        conditions,
        routes,
    })
}
