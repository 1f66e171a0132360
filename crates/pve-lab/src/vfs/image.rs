//! Disk images: recognized by their first bytes, or written as a header and a hole.

/// The format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Plain bytes.
    Raw,
    /// QEMU's own format.
    Qcow2,
    /// VMware's format.
    Vmdk,
}

impl ImageFormat {
    /// Returns the name that qemu-img and PVE use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }
}

/// What `qemu-img info` finds out about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its format.
    pub format: ImageFormat,
    /// The size of the disk that a guest would see, in bytes.
    pub virtual_size: u64,
    /// The backing file that a qcow2 names.
    pub backing_file: Option<String>,
}

/// How many leading bytes [`recognize`] wants.
pub(super) const HEADER: u64 = 1024;

fn big_endian(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let part = bytes.get(at..at + width)?;
    Some(part.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn little_endian(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let part = bytes.get(at..at + width)?;
    Some(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Reads an image's header; anything unknown is raw, as qemu-img sees it.
pub(super) fn recognize(header: &[u8], length: u64) -> ImageInfo {
    qcow2(header).or_else(|| vmdk(header)).unwrap_or(ImageInfo {
        format: ImageFormat::Raw,
        virtual_size: length.next_multiple_of(512),
        backing_file: None,
    })
}

// The header's layout: QEMU docs/interop/qcow2.rst.
fn qcow2(header: &[u8]) -> Option<ImageInfo> {
    if header.get(..4)? != b"QFI\xfb" || !(2..=3).contains(&big_endian(header, 4, 4)?) {
        return None;
    }
    let at = usize::try_from(big_endian(header, 8, 8)?).ok()?;
    let length = usize::try_from(big_endian(header, 16, 4)?).ok()?;
    let backing_file = (at != 0 && length != 0)
        .then(|| header.get(at..at.saturating_add(length)))
        .flatten()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    Some(ImageInfo { format: ImageFormat::Qcow2, virtual_size: big_endian(header, 24, 8)?, backing_file })
}

fn vmdk(header: &[u8]) -> Option<ImageInfo> {
    if header.get(..4)? != b"KDMV" {
        return None;
    }
    let sectors = little_endian(header, 12, 8)?;
    Some(ImageInfo {
        format: ImageFormat::Vmdk,
        virtual_size: sectors.saturating_mul(512),
        backing_file: None,
    })
}

/// Returns the first bytes of an empty image of this format.
pub(super) fn header(format: ImageFormat, virtual_size: u64, backing_file: Option<&str>) -> Vec<u8> {
    match format {
        ImageFormat::Raw => Vec::new(),
        ImageFormat::Qcow2 => qcow2_header(virtual_size, backing_file),
        ImageFormat::Vmdk => {
            let mut bytes = vec![0; 512];
            bytes[..4].copy_from_slice(b"KDMV");
            bytes[4] = 1;
            bytes[12..20].copy_from_slice(&virtual_size.div_ceil(512).to_le_bytes());
            bytes
        }
    }
}

fn qcow2_header(virtual_size: u64, backing_file: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    bytes[7] = 3;
    bytes[20..24].copy_from_slice(&16_u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&virtual_size.to_be_bytes());
    bytes[96..100].copy_from_slice(&4_u32.to_be_bytes());
    bytes[100..104].copy_from_slice(&104_u32.to_be_bytes());
    if let Some(name) = backing_file.map(str::as_bytes).filter(|name| name.len() <= 400) {
        bytes[8..16].copy_from_slice(&112_u64.to_be_bytes());
        bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        bytes[112..112 + name.len()].copy_from_slice(name);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_headers_are_recognized() {
        for format in [ImageFormat::Qcow2, ImageFormat::Vmdk] {
            let info = recognize(&header(format, 160 << 20, None), 18_093_056);
            assert_eq!(info, ImageInfo { format, virtual_size: 160 << 20, backing_file: None });
        }
        let backed = recognize(&header(ImageFormat::Qcow2, 1 << 30, Some("/etc/shadow")), 512);
        assert_eq!(backed.backing_file.as_deref(), Some("/etc/shadow"));
    }

    #[test]
    fn anything_else_is_raw_and_rounded_to_sectors() {
        assert_eq!(recognize(b"<html>", 6).virtual_size, 512);
        assert_eq!(recognize(b"QFI\xfb\0\0\0\x09", 8).format, ImageFormat::Raw);
        assert_eq!(recognize(b"", 0).virtual_size, 0);
    }
}
