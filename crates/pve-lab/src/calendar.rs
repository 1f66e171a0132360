//! Dates of seconds since 1970, UTC.

use jiff::Timestamp;

/// Writes a time by a format of `strftime`. One after the year 9999 is written as the last of that year.
pub(crate) fn written(seconds: u64, format: &'static str) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX).strftime(format).to_string()
}

/// `2026_11_21-23_59_59`, as backups are named.
pub fn backup_stamp(seconds: u64) -> String {
    written(seconds, "%Y_%m_%d-%H_%M_%S")
}

/// `Sat, 21 Nov 2026 23:59:59 GMT`, as HTTP writes dates.
pub fn http_date(seconds: u64) -> String {
    written(seconds, "%a, %d %b %Y %H:%M:%S GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_each_wants_them() {
        assert_eq!(backup_stamp(0), "1970_01_01-00_00_00");
        assert_eq!(backup_stamp(1_709_208_000), "2024_02_29-12_00_00");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(written(951_782_400, "%F"), "2000-02-29");
        assert_eq!(written(u64::MAX, "%Y"), "9999");
    }
}
