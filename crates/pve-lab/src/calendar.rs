//! Dates of seconds since 1970, UTC.

/// Year, month and day of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn clock(seconds: u64) -> (u64, u64, u64) {
    let rest = seconds % 86_400;
    (rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2026_11_21-23_59_59`, as backups are named.
pub fn backup_stamp(seconds: u64) -> String {
    let ((year, month, day), (hour, minute, second)) = (civil(seconds / 86_400), clock(seconds));
    format!("{year:04}_{month:02}_{day:02}-{hour:02}_{minute:02}_{second:02}")
}

/// `Sat, 21 Nov 2026 23:59:59 GMT`, as HTTP writes dates.
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let ((year, month, day), (hour, minute, second)) = (civil(seconds / 86_400), clock(seconds));
    let weekday = DAYS[(seconds / 86_400 % 7) as usize];
    let month = MONTHS[(month.clamp(1, 12) - 1) as usize];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_each_wants_them() {
        assert_eq!(backup_stamp(0), "1970_01_01-00_00_00");
        assert_eq!(backup_stamp(1_709_208_000), "2024_02_29-12_00_00");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
