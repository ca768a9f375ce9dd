//! Writes the Rust of one schema: its structures with their defaults, `encode` and `decode`.
//!
//! Generated functions are short and straight: one statement a field, behind a version test only where versions differ.
//! Everything that can be said once is said in `types::encoding`, because a cold build pays for every line here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::schema::{Field, Kind, Schema, Structure, Versions};

/// Names in Rust of the structures of one schema.
pub type Names = BTreeMap<String, String>;

/// The Rust of `schema`. `names` maps its structures' names to those they have in their module; `checked` says that
/// `encode` and `decode` refuse versions that the message does not have.
pub fn schema(schema: &Schema, name: &str, names: &Names) -> Result<String, String> {
    let generic = structures_with_records(schema);
    let top = Structure {
        name: schema.name.clone(),
        fields: schema.fields.clone(),
        versions: schema.valid,
    };
    let mut out = String::new();
    Emitter { schema, names, generic: &generic, top: true }.structure(&mut out, &top, name)?;
    for structure in &schema.structures {
        let name = names.get(&structure.name).ok_or("a structure without a name")?;
        Emitter { schema, names, generic: &generic, top: false }
            .structure(&mut out, structure, name)?;
    }
    Ok(out)
}

/// Names of structures that carry records themselves or in one of their fields.
fn structures_with_records(schema: &Schema) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let all = || {
        let structures = schema.structures.iter().map(|it| (&it.name, &it.fields));
        structures.chain([(&schema.name, &schema.fields)])
    };
    loop {
        let before = found.len();
        for (name, fields) in all() {
            let carries = |field: &Field| {
                field.kind == Kind::Records
                    || field.kind.structure().is_some_and(|inner| found.contains(inner))
            };
            if fields.iter().any(carries) {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

struct Emitter<'a> {
    schema: &'a Schema,
    names: &'a Names,
    generic: &'a BTreeSet<String>,
    top: bool,
}

impl Emitter<'_> {
    fn structure(&self, out: &mut String, structure: &Structure, name: &str) -> Result<(), String> {
        let mut fields: Vec<&Field> =
            structure.fields.iter().filter(|field| !field.versions.is_empty()).collect();
        let generic = self.generic.contains(&structure.name);
        self.definition(out, structure, name, &fields, generic)?;
        self.default(out, name, &fields, generic)?;

        let (parameters, own, read) = match generic {
            true => ("<R: Records>", format!("{name}<R>"), name.to_owned()),
            false => ("", name.to_owned(), name.to_owned()),
        };
        // Tagged fields go last, in the order of their tags.
        fields.sort_by_key(|field| field.tag.filter(|_| !field.tagged.is_empty()));
        let encode = self.encode(structure, &fields)?;
        let decode = self.decode(structure, &fields)?;
        let version = |body: &str| if has_word(body, "version") { "version" } else { "_version" };
        let (encode_version, decode_version) = (version(&encode), version(&decode));
        let reader = if has_word(&decode, "r") { "r" } else { "_r" };
        let writer = if has_word(&encode, "w") { "w" } else { "_w" };
        let encode_fn = format!(
            "/// Writes this in `version`.\n pub fn encode(&self, {writer}: &mut Writer, {encode_version}: i16) \
             -> Result<(), EncodeError> {{\n{encode}Ok(())\n}}\n"
        );
        let decode_fn = format!(
            "/// Reads one in `version`.\n pub fn decode({reader}: &mut Reader, {decode_version}: i16) \
             -> Result<Self, DecodeError> {{\n{decode}}}\n"
        );
        let constant = match self.top {
            true => format!(
                "/// First and last version.\n pub const VERSIONS: (i16, i16) = ({}, {});\n\n",
                self.schema.valid.first, self.schema.valid.last
            ),
            false => String::new(),
        };
        if generic {
            let take = self.take_records(&fields);
            write!(
                out,
                "impl{parameters} {own} {{\n{encode_fn}\n{take}}}\n\n\
                 impl {read} {{\n{constant}{decode_fn}}}\n\n"
            )
        } else {
            write!(out, "impl {own} {{\n{constant}{encode_fn}\n{decode_fn}}}\n\n")
        }
        .map_err(|error| error.to_string())
    }

    fn definition(
        &self,
        out: &mut String,
        structure: &Structure,
        name: &str,
        fields: &[&Field],
        generic: bool,
    ) -> Result<(), String> {
        let derivable = fields
            .iter()
            .map(|field| self.default_of(field))
            .collect::<Result<Vec<_>, _>>()?
            .iter()
            .all(|default| default == "Default::default()");
        let derive = if derivable && !generic { ", Default" } else { "" };
        if self.top {
            let flexible = match self.schema.flexible.and(self.schema.valid) {
                versions if versions.is_empty() => String::new(),
                versions => format!("; flexible {}", said(versions, self.schema.valid)),
            };
            let valid = self.schema.valid;
            let _ = writeln!(
                out,
                "/// `{}`, version{}{flexible}.",
                self.schema.name,
                match valid.first == valid.last {
                    true => format!(" {}", valid.first),
                    false => format!("s {} to {}", valid.first, valid.last),
                }
            );
        }
        let parameter = if generic { "<R = Bytes>" } else { "" };
        let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq{derive})]");
        let _ = writeln!(out, "pub struct {name}{parameter} {{");
        for field in fields {
            if field.versions != structure.versions {
                let _ = writeln!(out, "/// Version {}.", said(field.versions, structure.versions));
            }
            let _ = writeln!(out, "pub {}: {},", snake(&field.name), self.type_of(field)?);
        }
        let _ = writeln!(out, "}}\n");
        Ok(())
    }

    fn default(
        &self,
        out: &mut String,
        name: &str,
        fields: &[&Field],
        generic: bool,
    ) -> Result<(), String> {
        let defaults: Vec<(String, String)> = fields
            .iter()
            .map(|field| Ok((snake(&field.name), self.default_of(field)?)))
            .collect::<Result<_, String>>()?;
        if !generic && defaults.iter().all(|(_, default)| default == "Default::default()") {
            return Ok(());
        }
        let (parameter, own) =
            if generic { ("<R>", format!("{name}<R>")) } else { ("", name.to_owned()) };
        let _ = write!(out, "impl{parameter} Default for {own} {{ fn default() -> Self {{ Self {{");
        for (field, default) in defaults {
            let _ = write!(out, "{field}: {default},");
        }
        let _ = writeln!(out, "}} }} }}\n");
        Ok(())
    }

    /// Hands out the records in the order in which they are written.
    fn take_records(&self, fields: &[&Field]) -> String {
        let mut body = String::new();
        for field in fields {
            let name = snake(&field.name);
            let inner = field.kind.structure().is_some_and(|inner| self.generic.contains(inner));
            if field.kind == Kind::Records {
                let _ = writeln!(body, "out.extend(self.{name});");
            } else if inner {
                let _ = writeln!(body, "for it in self.{name} {{ it.take_records(out); }}");
            }
        }
        format!(
            "/// Moves the records out, in the order in which they are written.\n\
             pub fn take_records(self, out: &mut Vec<R>) {{\n{body}}}\n"
        )
    }

    fn encode(&self, structure: &Structure, fields: &[&Field]) -> Result<String, String> {
        let mut out = String::new();
        let context = structure.versions;
        if self.top {
            let _ = writeln!(
                out,
                "if !({}..={}).contains(&version) {{ return Err(EncodeError::UnsupportedVersion(version)); }}",
                context.first, context.last
            );
        }
        let flexible = self.schema.flexible.and(context);
        let mut tags = String::new();
        for field in fields {
            let name = snake(&field.name);
            let there = test(field.versions, context);
            let refuse =
                format!("return Err(EncodeError::FieldNotInVersion(\"{name}\", version));");
            let differs = self.differs(field)?;
            let body = if field.tagged.is_empty() {
                self.encode_field(field, context)?
            } else {
                let tag = field.tag.ok_or("a tagged field without a tag")?;
                let value = self.encode_value(field, true)?;
                let closure = match value.strip_suffix("?;").filter(|it| !it.contains(';')) {
                    Some(expression) => format!("|w| {expression}"),
                    None => format!("|w| {{ {value} Ok(()) }}"),
                };
                let there = test(field.versions, flexible);
                let condition = match there.as_str() {
                    "true" => differs.clone(),
                    test => format!("{test} && {differs}"),
                };
                let _ = writeln!(tags, "if {condition} {{ tags.field({tag}, {closure})?; }}");
                String::new()
            };
            match (there.as_str(), body.is_empty(), field.ignorable) {
                ("true", true, _) | ("false", _, true) | (_, true, true) => {}
                ("true", false, _) => out.push_str(&body),
                ("false", _, false) => {
                    let _ = writeln!(out, "if {differs} {{ {refuse} }}");
                }
                (test, false, true) => {
                    let _ = writeln!(out, "if {test} {{ {body} }}");
                }
                (test, true, false) => {
                    let _ = writeln!(out, "if {} && {differs} {{ {refuse} }}", negated(test));
                }
                (test, false, false) => {
                    let _ =
                        writeln!(out, "if {test} {{ {body} }} else if {differs} {{ {refuse} }}");
                }
            }
        }
        let tail = match tags.is_empty() {
            true => "w.no_tags();\n".to_owned(),
            false => format!("let mut tags = Tags::new();\n{tags}w.tags(tags);\n"),
        };
        self.with_flexible(out, tail, flexible, context)
    }

    fn decode(&self, structure: &Structure, fields: &[&Field]) -> Result<String, String> {
        let mut out = String::new();
        let context = structure.versions;
        if self.top {
            let _ = writeln!(
                out,
                "if !({}..={}).contains(&version) {{ return Err(DecodeError::UnsupportedVersion(version)); }}",
                context.first, context.last
            );
        }
        let flexible = self.schema.flexible.and(context);
        let mut body = String::new();
        let mut tags = String::new();
        for field in fields {
            let name = snake(&field.name);
            if !field.tagged.is_empty() {
                let tag = field.tag.ok_or("a tagged field without a tag")?;
                let guard = match test(field.versions, flexible).as_str() {
                    "true" => String::new(),
                    test => format!(" if {test}"),
                };
                let value = self.decode_value(field, true, context)?;
                let _ = writeln!(tags, "{tag}{guard} => it.{name} = {value},");
                continue;
            }
            let value = self.decode_value(field, false, context)?;
            match test(field.versions, context).as_str() {
                "true" => {
                    let _ = writeln!(body, "it.{name} = {value};");
                }
                "false" => {}
                test => {
                    let _ = writeln!(body, "if {test} {{ it.{name} = {value}; }}");
                }
            }
        }
        let tail = match tags.is_empty() {
            true => "r.skip_tags()?;\n".to_owned(),
            false => format!(
                "r.tags(|r, tag| {{ match tag {{ {tags} _ => return Ok(false), }} Ok(true) }})?;\n"
            ),
        };
        let body = self.with_flexible(body, tail, flexible, context)?;
        // Structures without fields, and those whose fields all come at once.
        match body.contains("it.") {
            true => {
                let _ = write!(out, "let mut it = Self::default();\n{body}Ok(it)\n");
            }
            false => {
                let _ = writeln!(out, "{body}Ok(Self::default())");
            }
        }
        Ok(out)
    }

    /// Appends what only flexible versions have, and names the question if it is asked.
    fn with_flexible(
        &self,
        mut body: String,
        tail: String,
        flexible: Versions,
        context: Versions,
    ) -> Result<String, String> {
        let question = test(flexible, context);
        match question.as_str() {
            "true" => body.push_str(&tail),
            "false" => {}
            _ => {
                let _ = writeln!(body, "if flexible {{ {tail} }}");
            }
        }
        Ok(match question.as_str() {
            "true" | "false" => replace_word(&body, "flexible", &question),
            test => {
                // The version check of the top structure stays first.
                let statement = format!("let flexible = {test};\n");
                match body.find("return Err(EncodeError::UnsupportedVersion(version)); }\n") {
                    Some(_) => {
                        let end = body.find('\n').map_or(0, |end| end + 1);
                        format!("{}{statement}{}", &body[..end], &body[end..])
                    }
                    None => format!("{statement}{body}"),
                }
            }
        })
    }

    fn encode_field(&self, field: &Field, context: Versions) -> Result<String, String> {
        let value = self.encode_value(field, false)?;
        let there = field.versions.and(context);
        if field.nullable.is_empty() && field.kind != Kind::Records || field.nullable.covers(there)
        {
            return Ok(format!("{value}\n"));
        }
        let name = snake(&field.name);
        let null = match test(field.nullable, there).as_str() {
            "false" => format!("self.{name}.is_none()"),
            test => format!("{} && self.{name}.is_none()", negated(test)),
        };
        Ok(format!(
            "if {null} {{ return Err(EncodeError::UnexpectedNull(\"{name}\", version)); }}\n{value}\n"
        ))
    }

    /// Statements that write the field.
    fn encode_value(&self, field: &Field, in_tag: bool) -> Result<String, String> {
        let name = format!("self.{}", snake(&field.name));
        let nullable = self.is_option(field);
        let flexible = match field.flexible {
            Some(versions) if versions.is_empty() => "false",
            Some(_) => return Err(format!("{}: a flexibility of its own", field.name)),
            None => "flexible",
        };
        Ok(match &field.kind {
            Kind::Text if nullable => format!("w.nullable_str(&{name}, {flexible})?;"),
            Kind::Text => format!("w.str(&{name}, {flexible})?;"),
            Kind::Bytes if nullable => format!("w.nullable_bytes(&{name}, {flexible})?;"),
            Kind::Bytes => format!("w.bytes(&{name}, {flexible})?;"),
            Kind::Records => format!("records::put(&{name}, w, {flexible})?;"),
            Kind::Struct(_) if nullable && in_tag => {
                format!("w.nullable_in_tag(&{name}, |w, it| it.encode(w, version))?;")
            }
            Kind::Struct(_) if nullable => {
                format!("w.nullable(&{name}, |w, it| it.encode(w, version))?;")
            }
            Kind::Struct(_) => format!("{name}.encode(w, version)?;"),
            Kind::Array(element) => {
                let method = if nullable { "nullable_array" } else { "array" };
                let closure = match &**element {
                    Kind::Text => "|w, it| w.str(it, flexible)".to_owned(),
                    Kind::Bytes => "|w, it| w.bytes(it, flexible)".to_owned(),
                    Kind::Struct(_) => "|w, it| it.encode(w, version)".to_owned(),
                    Kind::Array(_) | Kind::Records => {
                        return Err(format!("{}: an array of arrays", field.name));
                    }
                    plain => format!("|w, it| {{ w.{}(*it); Ok(()) }}", primitive(plain)?),
                };
                format!("w.{method}(&{name}, {flexible}, {closure})?;")
            }
            plain => format!("w.{}({name});", primitive(plain)?),
        })
    }

    /// An expression that reads the field.
    fn decode_value(
        &self,
        field: &Field,
        in_tag: bool,
        context: Versions,
    ) -> Result<String, String> {
        let flexible = if field.flexible.is_some() { "false" } else { "flexible" };
        let plain = |nullable: bool| -> Result<String, String> {
            Ok(match &field.kind {
                Kind::Text if nullable => format!("r.nullable_str({flexible})?"),
                Kind::Text => format!("r.str({flexible})?"),
                Kind::Bytes | Kind::Records if nullable => format!("r.nullable_bytes({flexible})?"),
                Kind::Bytes | Kind::Records => format!("r.bytes({flexible})?"),
                Kind::Struct(name) => {
                    let name = self.name(name)?;
                    match (nullable, in_tag) {
                        (true, true) => {
                            format!("r.nullable_in_tag(|r| {name}::decode(r, version))?")
                        }
                        (true, false) => format!("r.nullable(|r| {name}::decode(r, version))?"),
                        (false, _) => format!("{name}::decode(r, version)?"),
                    }
                }
                Kind::Array(element) => {
                    let method = if nullable { "nullable_array" } else { "array" };
                    let closure = match &**element {
                        Kind::Text => "|r| r.str(flexible)".to_owned(),
                        Kind::Bytes => "|r| r.bytes(flexible)".to_owned(),
                        Kind::Struct(name) => {
                            format!("|r| {}::decode(r, version)", self.name(name)?)
                        }
                        Kind::Array(_) | Kind::Records => {
                            return Err(format!("{}: an array of arrays", field.name));
                        }
                        plain => format!("Reader::{}", primitive(plain)?),
                    };
                    format!("r.{method}({flexible}, {closure})?")
                }
                plain => format!("r.{}()?", primitive(plain)?),
            })
        };
        if !self.is_option(field) {
            return plain(false);
        }
        Ok(match test(field.nullable, field.versions.and(context)).as_str() {
            "true" => plain(true)?,
            "false" => format!("Some({})", plain(false)?),
            test => format!("if {test} {{ {} }} else {{ Some({}) }}", plain(true)?, plain(false)?),
        })
    }

    fn name(&self, structure: &str) -> Result<&str, String> {
        let name = self.names.get(structure).ok_or_else(|| format!("no structure {structure}"))?;
        Ok(name)
    }

    fn is_option(&self, field: &Field) -> bool {
        !field.nullable.is_empty() || field.kind == Kind::Records
    }

    fn type_of(&self, field: &Field) -> Result<String, String> {
        let plain = self.type_of_kind(&field.kind)?;
        Ok(if self.is_option(field) { format!("Option<{plain}>") } else { plain })
    }

    fn type_of_kind(&self, kind: &Kind) -> Result<String, String> {
        Ok(match kind {
            Kind::Bool => "bool".to_owned(),
            Kind::Uuid => "Uuid".to_owned(),
            Kind::Text => "Str".to_owned(),
            Kind::Bytes => "Bytes".to_owned(),
            Kind::Records => "R".to_owned(),
            Kind::Struct(name) if self.generic.contains(name) => format!("{}<R>", self.name(name)?),
            Kind::Struct(name) => self.name(name)?.to_owned(),
            Kind::Array(element) => format!("Vec<{}>", self.type_of_kind(element)?),
            plain => primitive(plain)?.to_owned(),
        })
    }

    /// An expression of the field's value where nobody gave one.
    fn default_of(&self, field: &Field) -> Result<String, String> {
        const RUST: &str = "Default::default()";
        if self.is_option(field) {
            return Ok(match (&field.default, &field.kind) {
                (Some(text), _) if text == "null" => RUST.to_owned(),
                (Some(text), Kind::Text) => format!("Some({text:?}.into())"),
                (Some(_), _) => return Err(format!("{}: a strange default", field.name)),
                (None, Kind::Records) => RUST.to_owned(),
                // Absence of text is no text, wherever that can be said.
                (None, Kind::Text) if field.nullable == field.versions => RUST.to_owned(),
                (None, _) => "Some(Default::default())".to_owned(),
            });
        }
        Ok(match (&field.default, &field.kind) {
            (None, _) => RUST.to_owned(),
            (Some(text), Kind::Text) => format!("{text:?}.into()"),
            (Some(text), Kind::Bool) if text == "false" => RUST.to_owned(),
            (Some(text), Kind::Bool) => text.clone(),
            (Some(text), Kind::F64) if text == "0.0" => RUST.to_owned(),
            (Some(text), _) => match number(text)? {
                0 => RUST.to_owned(),
                number => number.to_string(),
            },
        })
    }

    /// An expression that is true if the field holds something other than its default.
    fn differs(&self, field: &Field) -> Result<String, String> {
        let name = format!("self.{}", snake(&field.name));
        let default = self.default_of(field)?;
        if self.is_option(field) {
            return Ok(match (default.as_str(), &field.kind) {
                ("Default::default()", Kind::Text) if field.default.is_none() => {
                    format!("{name}.as_ref().is_some_and(|it| !it.is_empty())")
                }
                ("Default::default()", _) => format!("{name}.is_some()"),
                (_, Kind::Text | Kind::Bytes | Kind::Array(_)) => {
                    format!("{name}.as_ref().is_none_or(|it| !it.is_empty())")
                }
                (_, Kind::Struct(structure)) => {
                    format!("{name} != Some({}::default())", self.name(structure)?)
                }
                _ => return Err(format!("{}: a strange default", field.name)),
            });
        }
        Ok(match (&field.kind, default.as_str()) {
            (Kind::Bool, "true") => format!("!{name}"),
            (Kind::Bool, _) => name,
            (Kind::Text | Kind::Bytes | Kind::Array(_), "Default::default()") => {
                format!("!{name}.is_empty()")
            }
            (Kind::Text, _) => {
                format!("{name} != {:?}", field.default.clone().unwrap_or_default())
            }
            (Kind::Uuid, _) => format!("!{name}.is_zero()"),
            (Kind::Struct(structure), _) => {
                format!("{name} != {}::default()", self.name(structure)?)
            }
            (Kind::F64, "Default::default()") => format!("{name} != 0.0"),
            (_, "Default::default()") => format!("{name} != 0"),
            (_, number) => format!("{name} != {number}"),
        })
    }
}

fn primitive(kind: &Kind) -> Result<&'static str, String> {
    Ok(match kind {
        Kind::Bool => "bool",
        Kind::I8 => "i8",
        Kind::I16 => "i16",
        Kind::U16 => "u16",
        Kind::I32 => "i32",
        Kind::U32 => "u32",
        Kind::I64 => "i64",
        Kind::F64 => "f64",
        Kind::Uuid => "uuid",
        other => return Err(format!("{other:?} is not a plain value")),
    })
}

fn number(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

/// The test whether `version`, known to lie in `context`, lies in `versions`.
fn test(versions: Versions, context: Versions) -> String {
    let both = versions.and(context);
    if both.is_empty() {
        "false".to_owned()
    } else if both == context {
        "true".to_owned()
    } else if both.last == context.last {
        format!("version >= {}", both.first)
    } else if both.first == context.first {
        format!("version <= {}", both.last)
    } else if both.first == both.last {
        format!("version == {}", both.first)
    } else {
        format!("({}..={}).contains(&version)", both.first, both.last)
    }
}

/// The opposite of a test.
fn negated(test: &str) -> String {
    match (test.strip_prefix("version >= "), test.strip_prefix("version <= ")) {
        (Some(first), _) => format!("version < {first}"),
        (_, Some(last)) => format!("version > {last}"),
        _ => format!("!({test})"),
    }
}

/// A range for people.
fn said(versions: Versions, context: Versions) -> String {
    if versions.first == versions.last {
        format!("{} only", versions.first)
    } else if versions.last == context.last {
        format!("{} and later", versions.first)
    } else {
        format!("{} to {}", versions.first, versions.last)
    }
}

/// Whether `word` stands alone somewhere in `text`.
pub fn has_word(text: &str, word: &str) -> bool {
    replace_word(text, word, "") != text
}

/// Replaces `word` where it stands alone.
fn replace_word(text: &str, word: &str, replacement: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let is_part = |symbol: char| symbol.is_alphanumeric() || symbol == '_';
    while let Some(start) = rest.find(word) {
        let end = start + word.len();
        let alone = !rest[..start].ends_with(is_part) && !rest[end..].starts_with(is_part);
        out.push_str(&rest[..start]);
        out.push_str(if alone { replacement } else { word });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `LeaderId` as `leader_id`.
pub fn snake(name: &str) -> String {
    let symbols: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut out = String::new();
    for (index, symbol) in symbols.iter().enumerate() {
        let starts_word = symbol.is_uppercase()
            && index > 0
            && (!symbols[index - 1].is_uppercase()
                || symbols.get(index + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word {
            out.push('_');
        }
        out.extend(symbol.to_lowercase());
    }
    match out.as_str() {
        "type" | "match" | "final" | "ref" | "move" | "use" => format!("r#{out}"),
        _ => out,
    }
}

/// `topicId` as `TopicId`.
pub fn camel(name: &str) -> String {
    let mut symbols = name.chars();
    symbols.next().map_or(String::new(), |first| first.to_uppercase().chain(symbols).collect())
}
