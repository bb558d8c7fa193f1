//! How a number of bytes reads: the same on the terminal and on a page.

/// `84 bytes`, `52.1 KiB`.
#[must_use]
pub fn words(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_it_fills() {
        assert_eq!(words(0), "0 bytes");
        assert_eq!(words(1023), "1023 bytes");
        assert_eq!(words(1024), "1.0 KiB");
        assert_eq!(words(53_350), "52.1 KiB");
        assert_eq!(words(5 << 40), "5120.0 GiB");
    }
}
