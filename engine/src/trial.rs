//! One request through chosen stages, to see what they make of it: nothing is counted, batched or delivered.

use crate::generation::{Generation, Tenant};
use crate::mask::{check_and_mask, PseudonymKeys};
use crate::otlp::edit::EditList;
use crate::otlp::items::leave_out;
use crate::otlp::Signal;
use crate::pipeline;
use crate::resource;
use crate::sample::sample;

/// Takes an uncompressed protobuf `Export*ServiceRequest` of `tenant` through `stages`, in the order given: `mask`,
/// `relabel`, `sample`, or the name of one of the tenant's destinations, whose wire format then comes out.
///
/// The error says which stage it was and what is wrong.
pub fn trial(
    generation: &Generation,
    keys: &PseudonymKeys,
    tenant: &str,
    signal: Signal,
    request: &[u8],
    stages: &[String],
) -> Result<Vec<u8>, String> {
    let known = generation.tenants.iter().find(|known| *known.state.id == *tenant);
    let tenant = known.ok_or_else(|| format!("there is no tenant {tenant}"))?;
    let mut payload = request.to_vec();
    for stage in stages {
        payload = pass(tenant, keys, signal, &payload, stage).map_err(|error| format!("{stage}: {error}"))?;
    }
    Ok(payload)
}

fn pass(tenant: &Tenant, keys: &PseudonymKeys, signal: Signal, request: &[u8], stage: &str) -> Result<Vec<u8>, String> {
    let rules = tenant.rules(signal).ok_or_else(|| format!("the tenant may not send {}", signal.name()))?;
    let id = &tenant.state.id;
    let mut edits = EditList::default();
    match stage {
        "mask" => {
            let masker = rules.masker.as_ref();
            let key = masker.and_then(|masker| keys.get(masker.pseudonym_key.as_deref()?, id));
            let masked = check_and_mask(signal, request, masker, key, &mut edits, None);
            let dropped = masked.map_err(|error| error.to_string())?.dropped;
            let masked = edits.apply(request).into_owned();
            if dropped.is_empty() {
                return Ok(masked);
            }
            edits.clear();
            leave_out(signal, &masked, &dropped, &mut edits).map_err(|error| error.to_string())?;
            return Ok(edits.apply(&masked).into_owned());
        }
        "relabel" => {
            resource::rewrite(signal, request, id, &rules.resource_rules, &mut edits)
                .map_err(|error| error.to_string())?;
        }
        "sample" => {
            if let Some(sampler) = &rules.sampler {
                sample(request, sampler, &mut edits).map_err(|error| error.to_string())?;
            }
        }
        destination => {
            let mut routes = tenant.routes(signal).iter().enumerate();
            let route = routes.find(|(_, route)| *route.lane.destination == *destination);
            let (index, route) = route.ok_or("there is no such stage, nor a destination of that name")?;
            let chosen = rules.conditions.choose(signal, request).map_err(|error| error.to_string())?;
            let part = chosen.and_then(|chosen| chosen.part(index, request)).map(|(part, _)| part);
            let mut payload = Vec::new();
            let input = part.as_deref().unwrap_or(request);
            pipeline::encode(&route.encoder, signal, rules, id, None, input, &mut payload)
                .map_err(|error| error.to_string())?;
            return Ok(payload);
        }
    }
    Ok(edits.apply(request).into_owned())
}
