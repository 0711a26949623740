//! What to write instead: the nearest word, the options of a statement.

use crate::form::Form;

/// The candidate closest to `word`, if one is close enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The statement's options, for the end of a message.
pub(crate) fn options_of(form: &Form) -> String {
    if form.options.is_empty() {
        return format!("`{}` takes no options", form.words);
    }
    let options: Vec<&str> = form.options.iter().map(|option| option.words()).collect();
    format!("`{}` takes {}", form.words, list(&options, "and"))
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn list(items: &[&str], word: &str) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
    enumerate(&quoted, word)
}

/// `a, b and c`.
pub(crate) fn enumerate(items: &[String], word: &str) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_word_that_was_meant() {
        let words = ["provider", "receiver", "id", "forward", "origin"];
        assert_eq!(nearest("provder", words), Some("provider"));
        assert_eq!(nearest("FOWARD", words), Some("forward"));
        assert_eq!(nearest("orgin", words), Some("origin"));
        assert_eq!(nearest("ix", words), Some("id"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("", words), None);
    }
}
