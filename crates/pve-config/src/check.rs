//! Whether PVE takes a value for a key.

use crate::keys::{Field, Shape, find_key};
use crate::property::PropertyString;
use crate::value::{parse_bool, percent_decode};
use pve_types::{Bytes, MacAddr, ParseError, PveVersion, VolumeId};

/// Checks that a version knows the key and that the value has the key's shape.
///
/// With `None` it is enough that some version does.
///
/// # Errors
/// The key is not known, or the value does not fit; the reason says what would.
pub fn check_value(key: &str, value: &str, version: Option<PveVersion>) -> Result<(), ParseError> {
    let unknown = |reason: String| ParseError::new("PVE option", key, reason);
    let Some(found) = find_key(key) else {
        return Err(unknown("no version of PVE from 7.4 to 9.2 supports it".to_owned()));
    };
    if let Some(version) = version.filter(|version| !version.at_least(found.since.0, found.since.1)) {
        return Err(unknown(format!(
            "PVE {version} does not support it; it requires {}.{}",
            found.since.0, found.since.1
        )));
    }
    let Shape::Properties(fields) = found.shape else {
        return check_shape(found.shape, value);
    };
    let parsed = PropertyString::parse(key, value)?;
    for (name, text) in parsed.iter() {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            let known: Vec<_> = fields.iter().map(|field| field.name).collect();
            return Err(unknown(format!(
                "it has no field `{}`, only {}",
                name.escape_debug(),
                known.join(", ")
            )));
        };
        check_field_version(field, version).map_err(unknown)?;
        check_shape(field.shape, text)?;
    }
    Ok(())
}

fn check_field_version(field: &Field, version: Option<PveVersion>) -> Result<(), String> {
    let Some(version) = version else { return Ok(()) };
    if !version.at_least(field.since.0, field.since.1) {
        return Err(format!(
            "PVE {version} does not support its field `{}`; it requires {}.{}",
            field.name, field.since.0, field.since.1
        ));
    }
    match field.until {
        Some((major, minor)) if version.at_least(major, minor) => {
            Err(format!("PVE {version} no longer supports its field `{}`", field.name))
        }
        _ => Ok(()),
    }
}

fn check_shape(shape: Shape, text: &str) -> Result<(), ParseError> {
    let refuse = |kind, reason: String| Err(ParseError::new(kind, text, reason));
    if shape != Shape::Lines && text.chars().any(char::is_control) {
        return refuse("value", "control characters are not allowed".to_owned());
    }
    match shape {
        Shape::Bool if parse_bool(text).is_none() => refuse("truth", "it must be `0` or `1`".to_owned()),
        Shape::Integer(min, max) if !text.parse().is_ok_and(|number: i64| (min..=max).contains(&number)) => {
            refuse("whole number", between(&min, &max, max == i64::MAX))
        }
        Shape::Number(min, max) if !text.parse().is_ok_and(|number: f64| (min..=max).contains(&number)) => {
            refuse("number", between(&min, &max, max == f64::MAX))
        }
        Shape::Choice(words) if !words.contains(&text) => {
            refuse("choice", format!("it is one of {}", words.join(", ")))
        }
        Shape::Size => Bytes::from_pve_size(text).map(|_| ()),
        Shape::Mac => text.parse::<MacAddr>().map(|_| ()),
        Shape::Percent if percent_decode(text).is_none() => {
            refuse("value", "it must be percent-encoded".to_owned())
        }
        Shape::Volume if text.contains(':') && !text.starts_with('/') => text.parse::<VolumeId>().map(|_| ()),
        _ => Ok(()),
    }
}

fn between<T: std::fmt::Display>(min: &T, max: &T, open: bool) -> String {
    if open { format!("it must be at least {min}") } else { format!("it must be {min} to {max}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_against_shape_and_version() {
        let nine = Some(PveVersion::new(9, 2, 0));
        let eight = Some(PveVersion::new(8, 4, 0));
        for (key, value) in [
            ("cores", "4"),
            ("agent", "1,type=isa"),
            ("intel-tdx", "type=tdx"),
            ("net0", "virtio,bridge=vmbr0"),
        ] {
            assert!(
                check_value(key, value, nine).is_ok(),
                "{key}={value}: {:?}",
                check_value(key, value, nine)
            );
        }
        for (key, value) in [
            ("cores", "0"),
            ("agent", "1,foo=1"),
            ("bios", "uefi"),
            ("nope", "1"),
            ("args", "a\nb"),
            ("scsi0", "local:1,cyls=3"),
        ] {
            assert!(check_value(key, value, nine).is_err(), "{key}={value}");
        }
        assert!(check_value("allow-ksm", "1", eight).is_err());
        assert!(check_value("scsi0", "local:1,cyls=3", eight).is_ok());
    }
}
