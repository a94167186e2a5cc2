//! The Python surface, `gateway._engine`; typed in `gateway/_engine.pyi`.

use std::borrow::Cow;
use std::ffi::c_int;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::admit::volume::Period;
use crate::compress::{compress as compress_parts, Codec};
use crate::encode::loki::merge::merge;
use crate::encode::split::{self, Format};
use crate::engine::Engine as Core;
use crate::identify::tokens::{Signals, Verdict};
use crate::listen::tls::TlsPem;
use crate::listen::{Limits, Protocol};
use crate::otlp::Signal;
use zeroize::Zeroizing;

/// A closed batch of one tenant and one destination.
#[pyclass(frozen, get_all, module = "gateway._engine")]
struct Batch {
    id: u64,
    tenant: String,
    destination: String,
    signal: &'static str,
    shard: u16,
    generation: u64,
    items: u64,
    parts: Vec<Py<Chunk>>,
    size: usize,
    opened_at: f64,
}

/// Bytes that Rust owns and Python reads in place.
#[pyclass(frozen, module = "gateway._engine")]
struct Chunk(Bytes);

#[pymethods]
impl Chunk {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// The buffer protocol, read-only.
    ///
    /// # Safety
    /// `view` must be valid, as the interpreter guarantees for `bf_getbuffer`.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        let length = isize::try_from(bytes.len())?;
        // SAFETY: the class is frozen, so the bytes neither move nor change while the view, which holds a reference to
        // `slf`, lives; the view is marked read-only.
        let status =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.as_ptr().cast_mut().cast(), length, 1, flags) };
        if status == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

#[pyclass(frozen, module = "gateway._engine")]
struct Engine(Core);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (
        *, threads, max_request_bytes, max_inflight_bytes, max_connections, header_timeout_s=10.0, body_timeout_s=60.0,
        idle_timeout_s=300.0, keepalive_interval_s=60.0
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        threads: usize,
        max_request_bytes: usize,
        max_inflight_bytes: u64,
        max_connections: u64,
        header_timeout_s: f64,
        body_timeout_s: f64,
        idle_timeout_s: f64,
        keepalive_interval_s: f64,
    ) -> PyResult<Engine> {
        let limits = Limits {
            max_request_bytes,
            max_connections,
            header_timeout: duration(header_timeout_s),
            body_timeout: duration(body_timeout_s),
            idle_timeout: duration(idle_timeout_s),
            keepalive_interval: duration(keepalive_interval_s),
        };
        Core::start(threads, limits, max_inflight_bytes)
            .map(Engine)
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn apply(&self, py: Python<'_>, table: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.apply(table)).map_err(PyValueError::new_err)
    }

    #[pyo3(signature = (
        protocol, *, certificate, private_key, client_ca=None, crl=None, require_client_certificate=true
    ))]
    fn set_tls(
        &self,
        protocol: &str,
        certificate: &[u8],
        private_key: &[u8],
        client_ca: Option<&[u8]>,
        crl: Option<&[u8]>,
        require_client_certificate: bool,
    ) -> PyResult<()> {
        let pem = TlsPem { certificate, private_key, client_ca, crl, require_client_certificate };
        self.0.set_tls(parse_protocol(protocol)?, &pem).map_err(PyValueError::new_err)
    }

    fn listen(&self, protocol: &str, fd: i32) -> PyResult<()> {
        let protocol = parse_protocol(protocol)?;
        // SAFETY: the caller hands over a socket that it detached (`socket.detach()`), so nobody else closes it.
        let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
        self.0.listen(protocol, listener).map_err(PyValueError::new_err)
    }

    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Batch>> {
        self.0
            .drain()
            .into_iter()
            .map(|closed| {
                let parts = closed.parts.into_iter().map(|chunk| Py::new(py, Chunk(chunk)));
                Ok(Batch {
                    id: closed.id,
                    tenant: closed.outlet.tenant.to_string(),
                    destination: closed.outlet.destination.to_string(),
                    signal: closed.outlet.signal.name(),
                    shard: closed.outlet.shard,
                    generation: closed.generation,
                    items: closed.items,
                    parts: parts.collect::<PyResult<_>>()?,
                    size: closed.bytes,
                    opened_at: closed.opened_at,
                })
            })
            .collect()
    }

    fn token_fd(&self) -> i32 {
        self.0.tokens().event_fd()
    }

    fn drain_tokens<'py>(&self, py: Python<'py>) -> Vec<(u64, Bound<'py, PyBytes>)> {
        let questions = self.0.tokens().drain();
        questions.into_iter().map(|question| (question.id, PyBytes::new(py, &question.token))).collect()
    }

    #[pyo3(signature = (question, *, tenant, signals, holds_s))]
    fn believe(&self, question: u64, tenant: &str, signals: Option<Vec<String>>, holds_s: f64) {
        let signals = signals.map_or(Signals::ALL, |names| Signals::named(&names));
        let verdict = Verdict::Believed { tenant: tenant.into(), signals };
        self.0.tokens().answer(question, &verdict, duration(holds_s));
    }

    #[pyo3(signature = (question, *, holds_s))]
    fn refuse(&self, question: u64, holds_s: f64) {
        self.0.tokens().answer(question, &Verdict::Refused, duration(holds_s));
    }

    #[pyo3(signature = (question, *, retry_after_s))]
    fn cannot_tell(&self, question: u64, retry_after_s: f64) {
        let verdict = Verdict::Unavailable { retry_after: duration(retry_after_s) };
        self.0.tokens().answer(question, &verdict, Duration::ZERO);
    }

    fn forget_tokens(&self) {
        self.0.tokens().forget();
    }

    fn refused_peers(&self) -> Vec<(&'static str, String, &'static str)> {
        self.0.refused_peers()
    }

    fn newly_used_keys(&self) -> Vec<(String, String)> {
        self.0.newly_used_keys()
    }

    fn ack(&self, py: Python<'_>, ids: Vec<u64>) {
        py.detach(|| self.0.settle(&ids, true));
    }

    fn fail(&self, py: Python<'_>, ids: Vec<u64>) {
        py.detach(|| self.0.settle(&ids, false));
    }

    #[pyo3(signature = (tenant, reason))]
    fn gate(&self, tenant: Option<&str>, reason: Option<String>) {
        self.0.gate(tenant, reason);
    }

    #[pyo3(signature = (period, *, ends_in_s))]
    fn start_period(&self, period: &str, ends_in_s: f64) -> PyResult<()> {
        let period = Period::parse(period).ok_or_else(|| PyValueError::new_err("period must be 'day' or 'month'"))?;
        self.0.start_period(period, ends_in_s);
        Ok(())
    }

    #[pyo3(signature = (tenant, signal, *, day_bytes, month_bytes))]
    fn set_volume(&self, tenant: &str, signal: &str, day_bytes: u64, month_bytes: u64) -> PyResult<()> {
        self.0.set_volume(tenant, parse_signal(signal)?, day_bytes, month_bytes);
        Ok(())
    }

    fn trial<'py>(
        &self,
        py: Python<'py>,
        tenant: &str,
        signal: &str,
        request: &[u8],
        stages: Vec<String>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let payload = py.detach(|| self.0.trial(tenant, signal, request, &stages)).map_err(PyValueError::new_err)?;
        Ok(PyBytes::new(py, &payload))
    }

    fn explain<'py>(
        &self,
        py: Python<'py>,
        tenant: &str,
        signal: &str,
        request: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let values = py.detach(|| self.0.explain(tenant, signal, request)).map_err(PyValueError::new_err)?;
        Ok(PyBytes::new(py, &values))
    }

    /// The keys come in buffers that the caller wipes; what is kept of them is wiped by the engine.
    fn set_pseudonym_keys(&self, keys: Vec<(String, String, u32, PyBuffer<u8>)>) -> PyResult<()> {
        let mut copies = Vec::with_capacity(keys.len());
        for (name, tenant, version, buffer) in keys {
            let mut key = Zeroizing::new(vec![0; buffer.len_bytes()]);
            Python::attach(|py| buffer.copy_to_slice(py, &mut key))?;
            copies.push((name, tenant, version, key));
        }
        let keys = copies.iter().map(|(name, tenant, version, key)| (&**name, &**tenant, *version, key.as_slice()));
        self.0.set_pseudonym_keys(keys).map_err(PyValueError::new_err)
    }

    fn flush(&self, py: Python<'_>) {
        py.detach(|| self.0.flush());
    }

    #[pyo3(signature = (*, to_successor))]
    fn leave(&self, to_successor: bool) {
        self.0.leave(to_successor);
    }

    fn close_listeners(&self) {
        self.0.close_listeners();
    }

    fn close_intake(&self) {
        self.0.close_intake();
    }

    fn awaited_connections(&self) -> u64 {
        self.0.awaited_connections()
    }

    fn under_way(&self) -> (u64, u64, u64, u64) {
        self.0.under_way()
    }

    #[pyo3(signature = (tenant, *, last))]
    fn dump_series<'py>(&self, py: Python<'py>, tenant: &str, last: bool) -> Option<Bound<'py, PyBytes>> {
        let state = py.detach(|| self.0.dump_series(tenant, last));
        state.map(|bytes| PyBytes::new(py, &bytes))
    }

    fn load_series(&self, py: Python<'_>, state: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.load_series(state)).map_err(PyValueError::new_err)
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let snapshot = py.detach(|| self.0.snapshot());
        PyBytes::new(py, &snapshot)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

fn parse_protocol(name: &str) -> PyResult<Protocol> {
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
    known.ok_or_else(|| PyValueError::new_err("protocol must be 'grpc' or 'http'"))
}

fn parse_signal(name: &str) -> PyResult<Signal> {
    let known = Signal::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| PyValueError::new_err("signal must be 'traces', 'metrics' or 'logs'"))
}

/// Of seconds that Python gave; what is no duration is none.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { Duration::MAX } else { Duration::ZERO })
}

#[pyfunction]
fn compress(py: Python<'_>, codec: &str, parts: Vec<PyBuffer<u8>>) -> PyResult<Chunk> {
    let codec = Codec::parse(codec)
        .ok_or_else(|| PyValueError::new_err("codec must be 'identity', 'snappy', 'gzip' or 'zstd'"))?;
    let unfit = || PyValueError::new_err("compress takes bytes and other buffers that cannot change");
    let slices = parts.iter().map(|part| constant(part).ok_or_else(unfit)).collect::<PyResult<Vec<_>>>()?;
    py.detach(|| compress_parts(codec, &slices)).map(|bytes| Chunk(bytes.into())).map_err(PyValueError::new_err)
}

#[pyfunction]
fn merge_streams(py: Python<'_>, parts: Vec<PyBuffer<u8>>) -> PyResult<Option<Chunk>> {
    let unfit = || PyValueError::new_err("merge_streams takes bytes and other buffers that cannot change");
    let slices = parts.iter().map(|part| constant(part).ok_or_else(unfit)).collect::<PyResult<Vec<_>>>()?;
    Ok(py.detach(|| merge(&slices)).map(|bytes| Chunk(bytes.into())))
}

/// The bytes of a buffer that cannot change, in place.
fn constant(buffer: &PyBuffer<u8>) -> Option<&[u8]> {
    if !buffer.readonly() || !buffer.is_c_contiguous() {
        return None;
    }
    if buffer.len_bytes() == 0 {
        return Some(&[]);
    }
    // SAFETY: the buffer is contiguous, not empty, stays exported while `buffer` lives, and is read-only for everybody who
    // could write to it.
    Some(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) })
}

/// A payload and the items in it, as Python has them.
type Counted<'py> = (Bound<'py, PyBytes>, u64);

#[pyfunction]
fn halve<'py>(
    py: Python<'py>,
    format: &str,
    signal: &str,
    payload: PyBuffer<u8>,
) -> PyResult<Option<(Counted<'py>, Counted<'py>)>> {
    let format = Format::parse(format, parse_signal(signal)?).ok_or_else(|| {
        PyValueError::new_err("format must be 'otlp', or 'remote_write' for metrics, or 'loki' for logs")
    })?;
    // What could change is read once, while nobody else runs.
    let payload = match constant(&payload) {
        Some(bytes) => Cow::Borrowed(bytes),
        None => Cow::Owned(payload.to_vec(py)?),
    };
    let halves = py.detach(|| split::halve(format, &payload));
    let halves = halves.map_err(|error| PyValueError::new_err(format!("the payload cannot be read: {error}")))?;
    let counted = |half: split::Half| (PyBytes::new(py, &half.payload), half.items);
    Ok(halves.map(|(left, right)| (counted(left), counted(right))))
}

#[pyfunction]
fn crc32(py: Python<'_>, parts: Vec<PyBuffer<u8>>) -> PyResult<u32> {
    let unfit = || PyValueError::new_err("crc32 takes bytes and other buffers that cannot change");
    let slices = parts.iter().map(|part| constant(part).ok_or_else(unfit)).collect::<PyResult<Vec<_>>>()?;
    Ok(py.detach(|| {
        let mut checksum = crc32fast::Hasher::new();
        slices.iter().for_each(|slice| checksum.update(slice));
        checksum.finalize()
    }))
}

#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Batch>()?;
    module.add_class::<Chunk>()?;
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(compress, module)?)?;
    module.add_function(wrap_pyfunction!(crc32, module)?)?;
    module.add_function(wrap_pyfunction!(halve, module)?)?;
    module.add_function(wrap_pyfunction!(merge_streams, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)
}
