//! Components that differ only in what their memory holds at start share their machine code.
//!
//! Tools for JavaScript and Python run a language's engine up to the script's first line and keep a picture of its memory: the
//! script is data, and two scripts of the same tool have the same code. So we compile the component's *template*, in which a
//! pattern of our own stands for that picture, find the pattern in what was compiled, and put the picture there. The next
//! component with the same template is compiled by copying bytes.
//!
//! What varies is: the bytes of active data segments, folded into one picture of whole pages, and the first value of mutable
//! globals that look like addresses (a tool that moves a stack changes one). All else is the template: its hash is the key, so
//! a different instruction, import, or size of memory makes a different template. The compiler sees nothing of the component
//! but the template; neither kind of byte reaches code, because a guest may overwrite both. A pattern that is not found exactly
//! once in its section makes the template useless, never wrong.

use memchr::memmem;
use object::{Object as _, ObjectSection as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasm_encoder::Encode as _;
use wasmparser::{
    BinaryReader, BinaryReaderError, Data, DataKind, Global, Operator, Parser, Payload, TypeRef, ValType,
};

/// Part of the key: whoever changes how templates are made counts on.
const FORMAT: &[u8] = b"sluice template 1\0";

/// A picture begins and ends at a page of Wasm, so that small differences between two scripts do not move its ends.
const PAGE: u64 = 64 * 1024;
/// Pictures up to this size may be mostly empty, larger ones not: as wasmtime judges them.
const SPARSE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// More data segments than a module may have, once their number has been rounded up.
const SEGMENTS_ROUNDED_MAX: u32 = 1 << 16;

/// Values of globals that vary: those that take four bytes where wasmtime writes them down, which addresses of large guests do.
const ADDRESSES: std::ops::Range<i32> = 1 << 20..1 << 27;

const SECTION_GLOBAL: u8 = 6;
const SECTION_DATA: u8 = 11;
const SECTION_DATA_COUNT: u8 = 12;
/// Sections of a component that hold what sections of its own have.
const SECTION_MODULE: u8 = 1;
const SECTION_COMPONENT: u8 = 4;

/// A component without what varies, and what varies of it.
pub(super) struct Template {
    /// The component to compile: patterns stand for what varies.
    pub(super) component: Vec<u8>,
    pub(super) key: Key,
    images: Vec<Vec<u8>>,
    globals: Vec<Variable>,
}

/// The name of a template: SHA-256 of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

/// Where in a compiled template its patterns are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places {
    images: Vec<usize>,
    globals: Vec<usize>,
}

/// A global whose first value varies: its index among those that its module defines.
struct Variable {
    index: u32,
    value: i32,
}

/// What a pass over one core module found.
struct Picture {
    /// Where in the memory it begins.
    start: u32,
    bytes: Vec<u8>,
    /// Data segments of the template.
    segments: u32,
    /// Whether code may name segments: then each keeps its index.
    is_counted: bool,
}

// === impl Template ===

impl Template {
    /// The template of a component, unless it has less code than that or nothing that varies.
    pub(super) fn of(component: &[u8], code_bytes_min: u64) -> Option<Self> {
        if code_bytes(component).ok()? < code_bytes_min {
            return None;
        }
        let mut template =
            Self { component: Vec::with_capacity(component.len()), key: Key([0; 32]), images: vec![], globals: vec![] };
        let mut bytes = std::mem::take(&mut template.component);
        template.write(component, &mut bytes).ok()?;
        if template.images.is_empty() {
            return None;
        }
        template.key = Key(Sha256::new().chain_update(FORMAT).chain_update(&bytes).finalize().into());
        template.component = bytes;
        Some(template)
    }

    /// Writes a component or a core module, with patterns for what varies.
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
        let is_module = Parser::is_core_wasm(bytes);
        let picture = if is_module { picture(bytes)? } else { None };
        let mut reader = BinaryReader::new(bytes, 0);
        out.extend(reader.read_bytes(8)?);
        while !reader.eof() {
            let begin = reader.original_position();
            let (id, size) = (reader.read_u8()?, reader.read_var_u32()?);
            let section = reader.read_bytes(size as usize)?;
            let mut written = Vec::new();
            match (is_module, id, &picture) {
                (false, SECTION_MODULE | SECTION_COMPONENT, _) => self.write(section, &mut written)?,
                (true, SECTION_GLOBAL, _) => self.write_globals(section, &mut written)?,
                (true, SECTION_DATA_COUNT, Some(picture)) => picture.segments.encode(&mut written),
                (true, SECTION_DATA, Some(picture)) => write_data(section, picture, self.images.len(), &mut written)?,
                _ => {
                    out.extend(&bytes[begin..reader.original_position()]);
                    continue;
                }
            }
            out.push(id);
            written.encode(out);
        }
        self.images.extend(picture.map(|picture| picture.bytes));
        Ok(())
    }

    fn write_globals(&mut self, section: &[u8], out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
        let mut reader = BinaryReader::new(section, 0);
        let count = reader.read_var_u32()?;
        count.encode(out);
        for index in 0..count {
            let begin = reader.original_position();
            let global: Global<'_> = reader.read()?;
            let raw = &section[begin..reader.original_position()];
            match address(&global)? {
                Some(value) => {
                    // The type takes one byte, whether it can be changed another.
                    out.extend(&raw[..2]);
                    out.push(0x41);
                    pattern_of_global(self.globals.len()).encode(out);
                    out.push(0x0b);
                    self.globals.push(Variable { index, value });
                }
                None => out.extend(raw),
            }
        }
        Ok(())
    }

    /// Finds the patterns in what the template was compiled to.
    pub(super) fn find(&self, artifact: &[u8]) -> Option<Places> {
        let file = object::File::parse(artifact).ok()?;
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let (start, _) = section.file_range()?;
            Some((usize::try_from(start).ok()?, section.data().ok()?))
        };
        let (data_start, data) = section(".rodata.wasm")?;
        let mut images = Vec::with_capacity(self.images.len());
        for (ordinal, image) in self.images.iter().enumerate() {
            images.push(data_start + once(data, &pattern(ordinal, image.len()))?);
        }
        let mut globals = Vec::with_capacity(self.globals.len());
        if !self.globals.is_empty() {
            let (info_start, info) = section(".wasmtime.info")?;
            for (ordinal, global) in self.globals.iter().enumerate() {
                let needle = global_as_stored(global.index, pattern_of_global(ordinal));
                globals.push(info_start + once(info, &needle)? + needle.len() - 4);
            }
        }
        Some(Places { images, globals })
    }

    /// Puts into a compiled template what varies, and so makes the component's own code of it.
    ///
    /// Returns `None`, with the artifact half filled, if the places are not this template's.
    pub(super) fn fill(&self, artifact: &mut [u8], places: &Places) -> Option<()> {
        if (places.images.len(), places.globals.len()) != (self.images.len(), self.globals.len()) {
            return None;
        }
        for (image, at) in self.images.iter().zip(&places.images) {
            artifact.get_mut(*at..)?.get_mut(..image.len())?.copy_from_slice(image);
        }
        for (global, at) in self.globals.iter().zip(&places.globals) {
            let value = global_as_stored(0, global.value);
            artifact.get_mut(*at..)?.get_mut(..4)?.copy_from_slice(&value[value.len() - 4..]);
        }
        Some(())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// === What varies ===

/// Bytes of code in all core modules.
fn code_bytes(component: &[u8]) -> Result<u64, BinaryReaderError> {
    let mut sum = 0;
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::CodeSectionStart { size, .. } = payload? {
            sum += u64::from(size);
        }
    }
    Ok(sum)
}

/// The value of a global that may change and looks like an address.
fn address(global: &Global<'_>) -> Result<Option<i32>, BinaryReaderError> {
    if !global.ty.mutable || global.ty.shared || global.ty.content_type != ValType::I32 {
        return Ok(None);
    }
    let mut operators = global.init_expr.get_operators_reader();
    let (first, second) = (operators.read()?, operators.read()?);
    Ok(match (first, second) {
        (Operator::I32Const { value }, Operator::End) if operators.eof() && ADDRESSES.contains(&value) => Some(value),
        _ => None,
    })
}

/// The picture of a core module's memory at its start, if its active segments make one that is known before it runs: all lie at
/// constant places inside the first memory, which is its own, and they are not strewn over it.
fn picture(module: &[u8]) -> Result<Option<Picture>, BinaryReaderError> {
    let (mut memories, mut imported, mut data, mut is_counted) = (Vec::new(), 0, None, false);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += usize::from(matches!(import?.ty, TypeRef::Memory(_)));
                }
            }
            Payload::MemorySection(section) => memories = section.into_iter().collect::<Result<_, _>>()?,
            Payload::DataCountSection { .. } => is_counted = true,
            Payload::DataSection(section) => data = Some(section),
            _ => {}
        }
    }
    let (Some(memory), Some(data), 0) = (memories.first(), data, imported) else { return Ok(None) };
    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
        return Ok(None);
    }
    let (end_max, mut segments, mut passive) = (memory.initial * PAGE, Vec::new(), 0);
    let count = data.count();
    for segment in data {
        let segment = segment?;
        let Some(start) = start_of(&segment)? else {
            if matches!(segment.kind, DataKind::Passive) {
                passive += 1;
                continue;
            }
            return Ok(None);
        };
        if u64::from(start) + segment.data.len() as u64 > end_max {
            return Ok(None);
        }
        segments.push((start, segment.data));
    }
    let filled: u64 = segments.iter().map(|(_, data)| data.len() as u64).sum();
    let begin = segments.iter().map(|(start, _)| u64::from(*start)).min().unwrap_or(0) / PAGE * PAGE;
    let end = segments.iter().map(|(start, data)| u64::from(*start) + data.len() as u64).max().unwrap_or(0);
    let len = end.next_multiple_of(PAGE).saturating_sub(begin);
    if filled == 0 || len > SPARSE_BYTES_MAX.max(filled * 2) {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    // In their order: a later segment writes over an earlier one.
    for (start, data) in segments {
        let at = start as usize - begin as usize;
        bytes[at..at + data.len()].copy_from_slice(data);
    }
    let segments = match count {
        _ if !is_counted => passive + 1,
        // Rounded, since tools vary it from script to script.
        ..=SEGMENTS_ROUNDED_MAX => count.next_power_of_two(),
        _ => count,
    };
    Ok(Some(Picture { start: u32::try_from(begin).unwrap_or(u32::MAX), bytes, segments, is_counted }))
}

/// Where an active segment of the first memory begins, if that is a constant.
fn start_of(segment: &Data<'_>) -> Result<Option<u32>, BinaryReaderError> {
    let DataKind::Active { memory_index: 0, offset_expr } = &segment.kind else { return Ok(None) };
    let mut operators = offset_expr.get_operators_reader();
    let (first, second) = (operators.read()?, operators.read()?);
    Ok(match (first, second) {
        (Operator::I32Const { value }, Operator::End) if operators.eof() => Some(value.cast_unsigned()),
        _ => None,
    })
}

/// Writes a data section: the first active segment is the whole picture's pattern, the others are empty, passive ones stay.
fn write_data(section: &[u8], picture: &Picture, ordinal: usize, out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
    let active = |start: u32, bytes: &[u8], out: &mut Vec<u8>| {
        out.extend([0x00, 0x41]);
        start.cast_signed().encode(out);
        out.push(0x0b);
        bytes.encode(out);
    };
    let mut reader = BinaryReader::new(section, 0);
    let count = reader.read_var_u32()?;
    picture.segments.encode(out);
    let mut is_written = false;
    let mut written = 0;
    for _ in 0..count {
        let begin = reader.original_position();
        let segment: Data<'_> = reader.read()?;
        match segment.kind {
            DataKind::Passive => out.extend(&section[begin..reader.original_position()]),
            DataKind::Active { .. } if !is_written => {
                active(picture.start, &pattern(ordinal, picture.bytes.len()), out);
                is_written = true;
            }
            DataKind::Active { .. } if picture.is_counted => active(0, &[], out),
            DataKind::Active { .. } => continue,
        }
        written += 1;
    }
    for _ in written..picture.segments {
        active(0, &[], out);
    }
    Ok(())
}

// === Patterns ===

/// Bytes that stand for a picture: no byte is zero, since wasmtime cuts zeros from both ends.
fn pattern(ordinal: usize, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(ordinal as u64 + 1);
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        // Xorshift: any sequence does that does not repeat.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend((state | 0x0101_0101_0101_0101).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A value that stands for a global's: any in the range, each once.
fn pattern_of_global(ordinal: usize) -> i32 {
    let width = (ADDRESSES.end - ADDRESSES.start) as usize;
    // A step that has no factor in common with the width reaches every value before it repeats one.
    ADDRESSES.start + i32::try_from((ordinal + 1).wrapping_mul(88_675_123) % width).unwrap_or(0)
}

/// A global's index and first value as wasmtime serialises them, in postcard's format: two varints, and one in zigzag.
fn global_as_stored(index: u32, value: i32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    index.encode(&mut bytes);
    bytes.push(0); // `GlobalConstValue::I32`
    ((value << 1) ^ (value >> 31)).cast_unsigned().encode(&mut bytes);
    bytes
}

/// Where `needle` is, if it is there exactly once.
fn once(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    // A prefix is enough to look for, and quicker.
    let prefix = &needle[..needle.len().min(64)];
    let mut found = memmem::find_iter(haystack, prefix).filter(|at| haystack[*at..].starts_with(needle));
    match (found.next(), found.next()) {
        (Some(at), None) => Some(at),
        _ => None,
    }
}
