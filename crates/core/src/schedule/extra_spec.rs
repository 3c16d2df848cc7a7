//! Flavors' extra specs against the metadata of aggregates: a value as it is, or an operator with what it compares to.
//!
//! | spec | is met by |
//! |---|---|
//! | `ssd` | `ssd` |
//! | `= 4`, `== 4`, `!= 4`, `>= 4`, `<= 4` | numbers; `=` means at least |
//! | `s== a`, `s!= a`, `s< a`, `s<= a`, `s> a`, `s>= a` | texts |
//! | `<in> ss` | a text with that in it |
//! | `<all-in> a b` | a text with all of them in it |
//! | `<or> a <or> b` | one of them |
//!
//! Source: nova, scheduler/filters/extra_specs_ops.py.

const OR: &str = "<or>";

/// Whether `value` is what `spec` asks for.
pub(super) fn is_met(spec: &str, value: &str) -> bool {
    let mut words = spec.split_whitespace();
    let operator = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let first = rest.first().copied();
    let text = |compare: fn(&str, &str) -> bool| first.is_some_and(|asked| compare(value, asked));
    let number = |compare: fn(&f64, &f64) -> bool| {
        let asked = first.and_then(|asked| asked.parse::<f64>().ok());
        asked.zip(value.parse().ok()).is_some_and(|(asked, value)| compare(&value, &asked))
    };
    match operator {
        "=" | ">=" => number(f64::ge),
        "==" => number(f64::eq),
        "!=" => number(f64::ne),
        "<=" => number(f64::le),
        "s==" => text(|value, asked| value == asked),
        "s!=" => text(|value, asked| value != asked),
        "s<" => text(|value, asked| value < asked),
        "s<=" => text(|value, asked| value <= asked),
        "s>" => text(|value, asked| value > asked),
        "s>=" => text(|value, asked| value >= asked),
        "<in>" => text(|value, asked| value.contains(asked)),
        "<all-in>" => !rest.is_empty() && rest.iter().all(|asked| value.contains(asked)),
        OR => rest.iter().step_by(2).any(|asked| *asked == value),
        _ => spec == value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_its_spec_asks_for() {
        let check = |spec: &str, met: &[&str], not: &[&str]| {
            assert!(met.iter().all(|value| is_met(spec, value)), "{spec} is not met by one of {met:?}");
            assert!(!not.iter().any(|value| is_met(spec, value)), "{spec} is met by one of {not:?}");
        };
        check("ssd", &["ssd"], &["SSD", "ssd2", ""]);
        check("", &[""], &["x"]);
        check("= 4", &["4", "5.5"], &["3", "many"]);
        check(">= 4", &["4"], &["3"]);
        check("<= 4", &["4", "3"], &["5"]);
        check("== 4", &["4", "4.0"], &["5"]);
        check("!= 4", &["5"], &["4", "many"]);
        check("s== a", &["a"], &["b"]);
        check("s!= a", &["b"], &["a"]);
        check("s< b", &["a"], &["b", "c"]);
        check("s<= b", &["a", "b"], &["c"]);
        check("s> b", &["c"], &["a", "b"]);
        check("s>= b", &["b", "c"], &["a"]);
        check("<in> ss", &["ssd"], &["hdd"]);
        check("<all-in> aes sse", &["aes,sse"], &["aes"]);
        check("<or> a <or> b", &["a", "b"], &["c", "<or>"]);
        // An operator without anything to compare with.
        check("s==", &[], &["", "s=="]);
        check("<all-in>", &[], &["", "a"]);
    }
}
