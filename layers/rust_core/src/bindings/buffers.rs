//! Arrays of unsigned 32-bit words that Python shares by the buffer protocol (PEP 3118), uncopied.
//!
//! The only file of the crate with `unsafe` in it. What makes it sound:
//!
//! - Who exports a buffer neither moves nor frees its memory until the export is given back
//!   (`array.array` then refuses to be resized), and `PyUntypedBuffer` gives it back when dropped.
//! - The loops run without the GIL, so another Python thread may write the same memory meanwhile:
//!   it is seen as atomic words only, never as `&[u32]` or `&mut [u32]`.
//! - Format, item size, alignment and contiguity are checked before the memory is looked at.

#![allow(unsafe_code)]

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words that may be written: an export of a buffer that is not read-only.
pub struct WritableWords(Words);

impl WritableWords {
    /// `name` is that of the argument, for the `ValueError`.
    pub fn of(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let words = Words::of(name, object)?;
        if words.0.readonly() {
            return Err(PyValueError::new_err(format!("{name} is read-only")));
        }
        Ok(Self(words))
    }

    pub fn as_atomics(&self) -> &[AtomicU32] {
        self.0.as_atomics()
    }

    pub fn addresses(&self) -> Range<usize> {
        self.0.addresses()
    }
}

/// Words that may be read; the memory may be read-only, so no atomic is handed out.
pub struct ReadableWords(Words);

impl ReadableWords {
    /// `name` is that of the argument, for the `ValueError`.
    pub fn of(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Words::of(name, object).map(Self)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        // Loads of this kind are allowed on read-only memory (std::sync::atomic, "Atomic accesses
        // to read-only memory").
        self.0.as_atomics().iter().map(|word| word.load(Ordering::Relaxed))
    }

    pub fn len(&self) -> usize {
        self.0.as_atomics().len()
    }

    pub fn addresses(&self) -> Range<usize> {
        self.0.addresses()
    }
}

/// An export whose items are aligned native words, one behind the other.
struct Words(PyUntypedBuffer);

impl Words {
    fn of(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let wrong = |rule: &str| Err(PyValueError::new_err(format!("{name} {rule}")));
        // A memoryview always tells shape and strides; exporters may leave them out, as ctypes does.
        let view = PyMemoryView::from(object);
        let Ok(buffer) = view.and_then(|view| PyUntypedBuffer::get(&view)) else {
            return wrong("is no buffer of native uint32, such as array.array(\"I\")");
        };
        if buffer.item_size() != size_of::<u32>() || !is_native_u32(buffer.format().to_bytes()) {
            return wrong("is no buffer of native uint32, such as array.array(\"I\")");
        }
        if buffer.dimensions() != 1 || !buffer.is_c_contiguous() {
            return wrong("is not contiguous in one dimension");
        }
        // Where there is nothing may be anywhere.
        if buffer.item_count() > 0 && !buffer.buf_ptr().cast::<u32>().is_aligned() {
            return wrong("does not begin at a multiple of 4 bytes");
        }
        Ok(Self(buffer))
    }

    fn as_atomics(&self) -> &[AtomicU32] {
        let count = self.0.item_count();
        if count == 0 {
            // Then the pointer may be null, or not aligned.
            return &[];
        }
        // SAFETY: `of` has checked that `count` initialised items of 4 bytes follow each other from
        // an aligned address, and the export keeps them there for as long as `self` lives, which
        // the slice can't outlive. AtomicU32 has the size, alignment (checked below) and bit
        // validity of u32. No `&mut` to the memory is ever made here. The memory is written through
        // the slice only if it is not read-only: `ReadableWords` hands out loads.
        unsafe { slice::from_raw_parts(self.0.buf_ptr().cast::<AtomicU32>(), count) }
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.0.buf_ptr().addr();
        start..start + self.0.len_bytes()
    }
}

const _: () = assert!(align_of::<AtomicU32>() == align_of::<u32>());

/// Whether a format of the `struct` module names an unsigned integer in this machine's byte order.
///
/// PyO3's own check takes `>I` for native on little-endian machines, and refuses `<I`.
fn is_native_u32(format: &[u8]) -> bool {
    const SAME_ORDER: u8 = if cfg!(target_endian = "little") { b'<' } else { b'>' };
    match format {
        // Native sizes; the item size is checked besides, as `L` has 4 or 8 bytes.
        [b'I' | b'L'] | [b'@', b'I' | b'L'] => true,
        // Standard sizes, where both have 4 bytes; `!` is big-endian.
        [order, b'I' | b'L'] => {
            *order == b'=' || *order == SAME_ORDER || (*order == b'!' && cfg!(target_endian = "big"))
        }
        _ => false,
    }
}
