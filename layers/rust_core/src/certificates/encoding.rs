//! What is read of a certificate (RFC 5280 section 4.1), borrowed from its DER.
//!
//! `x509_cert` copies each name and extension, which costs a tenth of the signature's check: here
//! it reads single values only.

use der::Decode;
use der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Validity;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`: a certificate's version.
const CONTEXT_0: u8 = 0xa0;
/// `[3] EXPLICIT`: its extensions.
const CONTEXT_3: u8 = 0xa3;

/// Version 3 (RFC 5280 section 4.1.2.1): the only one that has extensions.
const VERSION_3: [u8; 3] = [INTEGER, 1, 2];
/// The only `critical` that is written, as it is not the default.
const TRUE: [u8; 1] = [0xff];

/// Objects 2.5.29.15, .17 and .19.
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];

/// What certificates and revocation lists have in common: bytes, and a signature over them.
pub struct SignedBytes<'a> {
    /// The bytes as they were signed.
    pub to_be_signed: &'a [u8],
    /// An AlgorithmIdentifier.
    pub algorithm: &'a [u8],
    pub signature: &'a [u8],
}

impl<'a> SignedBytes<'a> {
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut inner = only(der, SEQUENCE)?;
        let read = Self {
            to_be_signed: inner.next(SEQUENCE)?.whole,
            algorithm: inner.next(SEQUENCE)?.whole,
            // A signature is whole bytes: no bit of its last one is unused.
            signature: inner.next(BIT_STRING)?.content.strip_prefix(&[0])?,
        };
        inner.finish()?;
        Some(read)
    }
}

/// A TBSCertificate; algorithm, names and key as they are encoded.
pub struct Contents<'a> {
    pub serial: SerialNumber,
    pub algorithm: &'a [u8],
    pub issuer: &'a [u8],
    pub validity: Validity,
    pub subject: &'a [u8],
    pub key_info: &'a [u8],
    pub extensions: Extensions,
}

impl<'a> Contents<'a> {
    pub fn read(to_be_signed: &'a [u8]) -> Option<Self> {
        let mut inner = only(to_be_signed, SEQUENCE)?;
        if inner.next(CONTEXT_0)?.content != VERSION_3 {
            return None;
        }
        let read = Self {
            serial: SerialNumber::from_der(inner.next(INTEGER)?.whole).ok()?,
            algorithm: inner.next(SEQUENCE)?.whole,
            issuer: inner.next(SEQUENCE)?.whole,
            validity: Validity::from_der(inner.next(SEQUENCE)?.whole).ok()?,
            subject: inner.next(SEQUENCE)?.whole,
            key_info: inner.next(SEQUENCE)?.whole,
            // Unique identifiers, which could stand before, must not be made (section 4.1.2.8).
            extensions: Extensions::read(inner.next(CONTEXT_3)?.content)?,
        };
        inner.finish()?;
        Some(read)
    }
}

/// The extensions that the federation understands.
#[derive(Default)]
pub struct Extensions {
    pub constraints: Option<BasicConstraints>,
    pub usage: Option<KeyUsage>,
    pub names: Option<SubjectAltName>,
    /// Another one is critical: who does not understand it must refuse (section 4.2).
    pub unknown_critical: bool,
}

impl Extensions {
    fn read(der: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        let mut all = only(der, SEQUENCE)?;
        while !all.0.is_empty() {
            let mut extension = Elements(all.next(SEQUENCE)?.content);
            let object = extension.next(OBJECT_IDENTIFIER)?.content;
            let critical = extension.0.first() == Some(&BOOLEAN);
            if critical && extension.next(BOOLEAN)?.content != TRUE {
                return None;
            }
            let value = extension.next(OCTET_STRING)?.content;
            extension.finish()?;
            if object == BASIC_CONSTRAINTS {
                once(&mut read.constraints, value)?;
            } else if object == KEY_USAGE {
                once(&mut read.usage, value)?;
            } else if object == SUBJECT_ALT_NAME {
                once(&mut read.names, value)?;
            } else {
                ObjectIdentifier::from_bytes(object).ok()?;
                read.unknown_critical |= critical;
            }
        }
        Some(read)
    }

    pub fn is_ca(&self) -> bool {
        self.constraints.as_ref().is_some_and(|constraints| constraints.ca)
    }

    pub fn may(&self, right: fn(&KeyUsage) -> bool) -> bool {
        self.usage.as_ref().is_some_and(right)
    }
}

/// RFC 5280 section 4.2: no extension comes twice.
fn once<'a, T: Decode<'a>>(field: &mut Option<T>, value: &'a [u8]) -> Option<()> {
    match field.replace(T::from_der(value).ok()?) {
        None => Some(()),
        Some(_) => None,
    }
}

/// The elements of one that is all there is.
fn only(der: &[u8], tag: u8) -> Option<Elements<'_>> {
    let mut outer = Elements(der);
    let content = outer.next(tag)?.content;
    outer.finish()?;
    Some(Elements(content))
}

/// DER elements (X.690 section 10) that follow each other.
struct Elements<'a>(&'a [u8]);

struct Element<'a> {
    /// With tag and length.
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The next one, which must have this tag.
    fn next(&mut self, tag: u8) -> Option<Element<'a>> {
        let (&[found, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&[length], rest) = rest.split_first_chunk()?;
                // The shortest form is the only one.
                (Some(usize::from(length)).filter(|length| *length >= 0x80)?, rest)
            }
            0x82 => {
                let (length, rest) = rest.split_first_chunk()?;
                (Some(usize::from(u16::from_be_bytes(*length))).filter(|length| *length >= 0x100)?, rest)
            }
            0x83 => {
                let (&[high, middle, low], rest) = rest.split_first_chunk()?;
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                (Some(length).filter(|length| *length >= 0x1_0000)?, rest)
            }
            // Indefinite, or above 16 MiB.
            _ => return None,
        };
        if found != tag {
            return None;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - behind.len()];
        self.0 = behind;
        Some(Element { whole, content })
    }

    /// None if there is more.
    fn finish(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
