//! What happens to streams over their budget.

use std::time::Duration;

use super::*;
use crate::admit::series::{Now, StreamBudget, Streams};
use crate::policy::StreamQuota;

#[test]
fn a_stream_over_the_budget_shares_one_and_its_labels_become_metadata() {
    let budget = StreamBudget::new();
    let quota = StreamQuota { max_active: 1, window_s: 60 };
    let send = |service: &str, now_s: u64| {
        let logs = vec![resource_logs(texts(&[("service.name", service)]), vec![record("a"), record("b")])];
        let now = Now { unix: Duration::from_secs(now_s), monotonic_ns: 0 };
        let streams = Streams { budget: &budget, quota: &quota, now };
        let mut out = Vec::new();
        let bytes = ExportLogsServiceRequest { resource_logs: logs }.encode_to_vec();
        let encoded = encoder().encode(&bytes, "acme", NOW, Some(streams), &mut out).unwrap();
        assert_eq!(encoded.items, 2, "no line is lost");
        PushRequest::decode(out.as_slice()).unwrap().streams.remove(0)
    };
    assert_eq!(send("one", 1_000).labels, r#"{service="one", tenant="acme"}"#);
    let over = send("two", 1_000);
    assert_eq!(over.labels, r#"{otel_overflow="true", tenant="acme"}"#);
    assert_eq!(over.entries[0].pairs(), [("service", "two")]);
    assert_eq!(send("one", 1_050).labels, r#"{service="one", tenant="acme"}"#, "what is known flows");
    assert_eq!(send("two", 1_111).labels, r#"{service="two", tenant="acme"}"#, "there is room again");
}
