//! A tenant's way to one destination, of one signal: its ledger cell, and the open batch of each shard.

use std::sync::Arc;

use crate::batch::Outlet;
use crate::encode::split::{deal, Format};
use crate::ledger::OutletCell;
use crate::otlp::wire::WireError;
use crate::otlp::Signal;
use crate::payload::Payload;

/// The shards share one cell: the ledger is of lanes.
#[derive(Clone)]
pub struct Lane {
    pub tenant: Arc<str>,
    pub destination: Arc<str>,
    pub signal: Signal,
    pub cell: Arc<OutletCell>,
    /// The outlet of shard 0, which is always there.
    first: Arc<Outlet>,
    /// Those of the shards from 1.
    further: Vec<Arc<Outlet>>,
}

/// What one shard gets of a request.
pub(crate) struct Portion<'l> {
    pub(crate) outlet: &'l Arc<Outlet>,
    pub(crate) payload: Payload,
    pub(crate) items: u64,
}

impl Lane {
    pub(crate) fn new(tenant: &Arc<str>, destination: &Arc<str>, signal: Signal) -> Lane {
        let cell = Arc::default();
        Lane {
            tenant: Arc::clone(tenant),
            destination: Arc::clone(destination),
            signal,
            first: Arc::new(Outlet::new(tenant, destination, signal, 0, &cell)),
            further: Vec::new(),
            cell,
        }
    }

    /// The lane with `shards` shards, at least one; those that it never had are made. With fewer than it had, the others
    /// stay with `self`: what they hold is still handed out.
    pub(crate) fn of_shards(&mut self, shards: u16) -> Lane {
        for shard in 1 + self.further.len() as u16..shards {
            let outlet = Outlet::new(&self.tenant, &self.destination, self.signal, shard, &self.cell);
            self.further.push(Arc::new(outlet));
        }
        let further = self.further.iter().take(usize::from(shards.saturating_sub(1))).cloned().collect();
        Lane { further, ..self.clone() }
    }

    /// Appends what each shard gets of a payload that holds `items`; nothing if it is empty.
    ///
    /// `format`: the payload's; what has none cannot be taken apart and goes to the first.
    pub(crate) fn deal<'l>(
        &'l self,
        format: Option<Format>,
        payload: Payload,
        items: u64,
        portions: &mut Vec<Portion<'l>>,
    ) -> Result<(), WireError> {
        match format {
            _ if payload.is_empty() => {}
            Some(format) if !self.has_one_shard() => {
                let dealt = deal(format, 1 + self.further.len(), payload.into_joined())?;
                portions.extend(dealt.into_iter().map(|share| Portion {
                    outlet: self.outlet(share.shard),
                    payload: Payload::Encoded(share.payload),
                    items: share.items,
                }));
            }
            _ => portions.push(Portion { outlet: &self.first, payload, items }),
        }
        Ok(())
    }

    /// Whether there is nothing to deal.
    pub(crate) fn has_one_shard(&self) -> bool {
        self.further.is_empty()
    }

    fn outlet(&self, shard: usize) -> &Arc<Outlet> {
        match shard.checked_sub(1) {
            None => &self.first,
            Some(index) => &self.further[index],
        }
    }
}
