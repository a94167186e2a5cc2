//! What each destination gets of a request, on its way into the open batches.

use tokio::sync::oneshot::Receiver;

use crate::admit::inflight::Reservation;
use crate::batch::{Batches, Pending, Piece};
use crate::encode::Encoded;
use crate::generation::{Generation, Route};
use crate::ledger::Received;
use crate::otlp::wire::WireError;
use crate::otlp::Signal;
use crate::payload::Payload;
use crate::policy::Ack;

/// What one destination gets of a request.
pub(crate) struct Share<'r> {
    pub(crate) route: &'r Route,
    pub(crate) payload: Payload,
    pub(crate) encoded: Encoded,
}

/// Puts shares into the open batches of their shards; returns what tells whether they were kept, if that is to be waited
/// for. `received` comes back with an error.
pub(crate) fn append(
    generation: &Generation,
    batches: &Batches,
    signal: Signal,
    shares: Vec<Share<'_>>,
    received: Received,
    reservation: &Reservation,
) -> Result<Option<Receiver<bool>>, (Received, WireError)> {
    let mut portions = Vec::with_capacity(shares.len());
    let mut told = Vec::with_capacity(shares.len());
    for Share { route, payload, encoded } in shares {
        let undeliverable: u64 = encoded.dropped.iter().map(|(_, items)| items).sum();
        let items = encoded.items - undeliverable;
        if let Err(error) = route.lane.deal(route.encoder.format(signal), payload, items, &mut portions) {
            return Err((received, error));
        }
        told.push((&route.lane.cell, encoded));
    }
    for (cell, encoded) in told {
        for (reason, items) in encoded.dropped {
            cell.drop_items(reason, items);
        }
        cell.label_collisions(encoded.label_collisions);
        cell.limited(&encoded.limited);
    }
    let (pending, outcome) = match generation.ack {
        Ack::Durable if !portions.is_empty() => {
            let (pending, outcome) = Pending::new(received, portions.len());
            (Some(pending), Some(outcome))
        }
        _ => {
            received.accept();
            (None, None)
        }
    };
    // From here on the encoded pieces are what is in flight; the body's reservation ends with the request.
    for portion in portions {
        let piece = Piece {
            reservation: reservation.also(portion.payload.len()),
            items: portion.items,
            payload: portion.payload,
            pending: pending.clone(),
        };
        batches.append(portion.outlet, generation.number, piece);
    }
    Ok(outcome)
}
