//! Lists of literals in SQL: `IN ('x', 'y')`, and the rows of an `INSERT`, whose sensitive columns are named before.

use super::bytes::{is_name, is_word, skip_escaped_space, trim_escaped_space};
use super::literals::{push_content, word_before};
use super::value::{self, Value};
use super::{key, Member};
use memchr::memrchr;

/// Appends each literal up to the closing parenthesis. `from` is behind the opening one. Returns how far the text was read.
pub(super) fn push_list(text: &[u8], from: usize, rule: usize, found: &mut Vec<Member>) -> usize {
    let mut at = from;
    while let Some(item) = Item::at(text, at) {
        item.push_literals(text, rule, found);
        match item.next(text) {
            Some(Next::Item(from)) => at = from,
            Some(Next::End(end)) => return end,
            None => break,
        }
    }
    text.len()
}

/// Appends the literals of sensitive columns in each row. `values` is where the word `VALUES` begins, `open` the
/// parenthesis of the first row. Returns how far the text was read.
pub(super) fn find(
    text: &[u8],
    values: usize,
    open: usize,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    found: &mut Vec<Member>,
) -> usize {
    let Some(rules) = column_rules(text, values, rule_of) else { return open };
    let mut row = open + 1;
    loop {
        match row_end(text, row, &rules, found) {
            Row::Whole(end) => match next_row(text, end) {
                Some(next) => row = next,
                None => return end,
            },
            Row::CutOff => return text.len(),
            Row::Broken(rule) => {
                // A literal was read other than it was meant: which values are whose is not known.
                found.retain(|member| member.value.start < row);
                let rest = Value { content: row..text.len(), end: text.len(), unterminated: true };
                push_content(text, &rest, rule, found);
                return text.len();
            }
        }
    }
}

/// The rule of each column in the list in front of `VALUES`, if one has any.
fn column_rules(text: &[u8], values: usize, rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<Vec<Option<usize>>> {
    // `OVERRIDING SYSTEM VALUE`, `OUTPUT INSERTED.id`
    const MAX_WORDS: usize = 3;
    let mut end = trim_escaped_space(text, 0, values);
    for _ in 0..MAX_WORDS {
        let word = word_before(text, 0, end);
        end = trim_escaped_space(text, 0, word.start);
    }
    let close = end.checked_sub(1).filter(|&close| text[close] == b')')?;
    let open = memrchr(b'(', &text[..close])?;
    let rule = |column: &[u8]| {
        let end = column.iter().rposition(|&byte| is_name(byte))? + 1;
        let start = column[..end].iter().rposition(|&byte| !is_name(byte)).map_or(0, |at| at + 1);
        let name = &column[start..end];
        let letters = key::escape_letters(column, start, name);
        key::rule_of_name(name, rule_of).or_else(|| key::rule_of_name(&name[letters..], rule_of))
    };
    let rules: Vec<Option<usize>> = text[open + 1..close].split(|&byte| byte == b',').map(rule).collect();
    rules.iter().any(Option::is_some).then_some(rules)
}

enum Row {
    Whole(usize),
    CutOff,
    /// Other items than columns; with the rule of a column.
    Broken(usize),
}

fn row_end(text: &[u8], from: usize, rules: &[Option<usize>], found: &mut Vec<Member>) -> Row {
    let mut at = from;
    let mut index = 0;
    loop {
        let Some(item) = Item::at(text, at) else { return Row::CutOff };
        if let Some(&Some(rule)) = rules.get(index) {
            item.push_literals(text, rule, found);
        }
        index += 1;
        match item.next(text) {
            Some(Next::Item(next)) if !item.is_out_of_step => at = next,
            Some(Next::End(end)) if index == rules.len() && !item.is_out_of_step => return Row::Whole(end),
            None if index <= rules.len() && !item.is_out_of_step => return Row::CutOff,
            Some(_) | None => match rules.iter().flatten().next() {
                Some(&rule) => return Row::Broken(rule),
                None => return Row::CutOff,
            },
        }
    }
}

/// Behind the parenthesis of the next row.
fn next_row(text: &[u8], end: usize) -> Option<usize> {
    let comma = skip_escaped_space(text, end);
    let open = skip_escaped_space(text, comma + usize::from(text.get(comma) == Some(&b',')));
    (text.get(comma) == Some(&b',') && text.get(open) == Some(&b'(')).then_some(open + 1)
}

enum Next {
    Item(usize),
    End(usize),
}

/// One expression of a list.
struct Item {
    start: usize,
    end: usize,
    literals: Vec<Value>,
    /// A string was followed by a word: the dialect does not escape by backslashes (`('c:\', 'x')`), or the reverse.
    is_out_of_step: bool,
}

impl Item {
    fn at(text: &[u8], from: usize) -> Option<Item> {
        let start = skip_escaped_space(text, from);
        if start >= text.len() {
            return None;
        }
        let mut literals = Vec::new();
        let mut is_out_of_step = false;
        let mut depth = 0usize;
        let mut at = start;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'(' => depth += 1,
                b')' if depth == 0 => break,
                b')' => depth -= 1,
                b',' if depth == 0 => break,
                b'\'' | b'"' | b'\\' | b'$' => {
                    if let Some(value) = string(text, at) {
                        at = value.end;
                        is_out_of_step |= is_word(text.get(at));
                        literals.push(value);
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if literals.is_empty() && matches!(text[start], b'0'..=b'9' | b'-' | b'+' | b'.') {
            let length = text[start..at].trim_ascii_end().len();
            literals.push(Value::bare(start..start + length));
        }
        Some(Item { start, end: at, literals, is_out_of_step })
    }

    fn push_literals(&self, text: &[u8], rule: usize, found: &mut Vec<Member>) {
        for literal in &self.literals {
            if literal.content.start >= self.start {
                push_content(text, literal, rule, found);
            }
        }
    }

    fn next(&self, text: &[u8]) -> Option<Next> {
        match text.get(self.end)? {
            b',' => Some(Next::Item(self.end + 1)),
            _ => Some(Next::End(self.end + 1)),
        }
    }
}

/// A string that begins with the quote, backslash or dollar at `at`.
fn string(text: &[u8], at: usize) -> Option<Value> {
    value::quoted(text, at).or_else(|| value::dollar_quoted(text, at))
}
