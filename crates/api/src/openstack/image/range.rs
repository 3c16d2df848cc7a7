//! Which part of an image's bytes a request asks for.

/// Of one file: where it begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub first: u64,
    pub bytes: u64,
}

impl Part {
    /// `Content-Range` of a file of `of_bytes`.
    pub fn content_range(self, of_bytes: u64) -> String {
        format!("bytes {}-{}/{of_bytes}", self.first, self.first + self.bytes - 1)
    }
}

/// None of the file's bytes is meant, or more than one range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSatisfiable;

/// `None`: the whole file. `header` is the value of `Range`.
pub fn parse(header: Option<&str>, file_bytes: u64) -> Result<Option<Part>, NotSatisfiable> {
    let Some(header) = header else { return Ok(None) };
    let spec = header.trim().strip_prefix("bytes=").ok_or(NotSatisfiable)?;
    let (first, last) = spec.split_once('-').ok_or(NotSatisfiable)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than a file has bytes.
        if digits { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(NotSatisfiable) }
    };
    let (first, end) = match (first, last) {
        ("", suffix) => (file_bytes.saturating_sub(number(suffix)?), file_bytes),
        (first, "") => (number(first)?, file_bytes),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(NotSatisfiable);
            }
            (first, last.saturating_add(1).min(file_bytes))
        }
    };
    if first < end { Ok(Some(Part { first, bytes: end - first })) } else { Err(NotSatisfiable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_in_its_three_forms() {
        let check = |header: Option<&str>, want: Result<Option<(u64, u64)>, NotSatisfiable>| {
            let got = parse(header, 100).map(|part| part.map(|part| (part.first, part.bytes)));
            assert_eq!(got, want, "{header:?}");
        };
        check(None, Ok(None));
        check(Some("bytes=0-"), Ok(Some((0, 100))));
        check(Some("bytes=10-19"), Ok(Some((10, 10))));
        check(Some("bytes=99-99"), Ok(Some((99, 1))));
        check(Some("bytes=90-1000"), Ok(Some((90, 10))));
        check(Some("bytes=-5"), Ok(Some((95, 5))));
        check(Some("bytes=-500"), Ok(Some((0, 100))));
        check(Some("bytes=0-99999999999999999999"), Ok(Some((0, 100))));
        for bad in [
            "bytes=100-",
            "bytes=-0",
            "bytes=5-4",
            "bytes=",
            "bytes=-",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "0-1",
        ] {
            check(Some(bad), Err(NotSatisfiable));
        }
        assert_eq!(parse(Some("bytes=0-0"), 0), Err(NotSatisfiable));
        assert_eq!(Part { first: 10, bytes: 5 }.content_range(100), "bytes 10-14/100");
    }
}
