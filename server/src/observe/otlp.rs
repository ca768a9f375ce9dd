//! Metrics that clients push, as far as they are shown: numbers of OpenTelemetry's protocol buffers (opentelemetry-proto,
//! `metrics.proto` 1.x) with their attributes. What else there is (histograms, exemplars, units) is passed over.
//!
//! The bytes come from anybody who reaches the broker: each length lies within what is there, nesting has a fixed depth, and
//! what is taken has bounds ([`Room`]). A few attributes that all numbers share would grow with their count otherwise.

/// Attributes of a client or of a number: more make no sense.
const ATTRIBUTES_MAX: usize = 64;

/// What may yet be taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Numbers.
    pub points: usize,
    /// Bytes of their names, and of the names and values of their attributes.
    pub text: usize,
}

/// What a push holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Pushed {
    /// Its numbers, as far as there was room.
    pub points: Vec<Point>,
    /// How many there was no room for.
    pub left_out: usize,
}

/// A number that a client measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Name of the metric, with dots.
    pub name: String,
    /// Attributes of the client and of this number.
    pub labels: Vec<(String, String)>,
    /// Whether it only goes up.
    pub is_counter: bool,
    /// The number.
    pub value: f64,
}

/// Not such a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The numbers in `MetricsData`; takes what they need from `room`.
pub fn read(data: &[u8], room: &mut Room) -> Result<Pushed, Malformed> {
    let mut pushed = Pushed { points: Vec::new(), left_out: 0 };
    for resource_metrics in messages(data, 1) {
        let resource_metrics = resource_metrics?;
        let mut shared = Vec::new();
        for resource in messages(resource_metrics, 1) {
            attributes(resource?, 1, &mut shared)?;
        }
        for scope in messages(resource_metrics, 2) {
            for metric in messages(scope?, 2) {
                pushed.take(metric?, &shared, room)?;
            }
        }
    }
    Ok(pushed)
}

impl Pushed {
    fn take(
        &mut self,
        metric: &[u8],
        shared: &[(String, String)],
        room: &mut Room,
    ) -> Result<(), Malformed> {
        const GAUGE: u32 = 5;
        const SUM: u32 = 7;
        let (mut name, mut data) = ("", None);
        for field in fields(metric) {
            match field? {
                (1, Value::Bytes(text)) => {
                    name = std::str::from_utf8(text).map_err(|_| Malformed)?
                }
                (kind @ (GAUGE | SUM), Value::Bytes(bytes)) => data = Some((kind, bytes)),
                _ => {}
            }
        }
        let Some((kind, data)) = data else { return Ok(()) };
        let is_monotonic =
            fields(data).any(|field| matches!(field, Ok((3, Value::Varint(value))) if value != 0));
        let is_counter = kind == SUM && is_monotonic;
        for point in messages(data, 1) {
            let point = point?;
            let mut own = Vec::new();
            attributes(point, 7, &mut own)?;
            let mut value = None;
            for field in fields(point) {
                match field? {
                    (4, Value::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
                    (6, Value::Fixed64(bits)) => value = Some(bits as i64 as f64),
                    _ => {}
                }
            }
            let Some(value) = value else { continue };
            let all = shared.iter().chain(&own);
            let text =
                name.len() + all.map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if room.points == 0 || room.text < text {
                self.left_out += 1;
                continue;
            }
            room.points -= 1;
            room.text -= text;
            let labels = [shared, &own].concat();
            self.points.push(Point { name: name.to_owned(), labels, is_counter, value });
        }
        Ok(())
    }
}

/// Adds the `KeyValue`s in field `number` of `message`.
fn attributes(
    message: &[u8],
    number: u32,
    labels: &mut Vec<(String, String)>,
) -> Result<(), Malformed> {
    for pair in messages(message, number) {
        let (mut key, mut value) = (String::new(), String::new());
        for field in fields(pair?) {
            match field? {
                (1, Value::Bytes(text)) => key = text_of(text)?,
                (2, Value::Bytes(any)) => value = any_value(any)?,
                _ => {}
            }
        }
        if labels.len() == ATTRIBUTES_MAX {
            return Err(Malformed);
        }
        labels.push((key, value));
    }
    Ok(())
}

fn any_value(any: &[u8]) -> Result<String, Malformed> {
    let mut text = String::new();
    for field in fields(any) {
        match field? {
            (1, Value::Bytes(string)) => text = text_of(string)?,
            (2, Value::Varint(truth)) => text = (truth != 0).to_string(),
            (3, Value::Varint(number)) => text = (number as i64).to_string(),
            (4, Value::Fixed64(bits)) => text = f64::from_bits(bits).to_string(),
            _ => {}
        }
    }
    Ok(text)
}

fn text_of(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
}

/// The messages in field `number` of `message`.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    fields(message).filter_map(move |field| match field {
        Ok((found, Value::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// A field's value; of numbers of 32 bits nothing is shown.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, up to the first that makes no sense.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>), Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest).ok_or(Malformed);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Value::Fixed32
        }
        _ => return None,
    };
    Some((number, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// At most ten bytes of seven bits, the lowest first; what does not fit into 64 bits makes no sense.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = body.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(body);
        out
    }

    fn pair(number: u8, key: &str, value: &str) -> Vec<u8> {
        let any = message(2, &message(1, value.as_bytes()));
        message(number, &[message(1, key.as_bytes()), any].concat())
    }

    fn pushed() -> Vec<u8> {
        let double = [vec![4 << 3 | 1], 2.5_f64.to_le_bytes().to_vec(), pair(7, "topic", "t")];
        let gauge = message(5, &message(1, &double.concat()));
        let int = [vec![6 << 3 | 1], 7_i64.to_le_bytes().to_vec()].concat();
        let sum = message(7, &[message(1, &int), vec![2 << 3, 2, 3 << 3, 1]].concat());
        let metrics = [
            message(2, &[message(1, b"a.rate"), gauge].concat()),
            message(2, &[message(1, b"a.total"), sum].concat()),
        ];
        let resource = message(1, &pair(1, "group_id", "g"));
        message(1, &[resource, message(2, &metrics.concat())].concat())
    }

    fn points(data: &[u8]) -> Result<Vec<Point>, Malformed> {
        Ok(read(data, &mut Room { points: 1000, text: 1 << 20 })?.points)
    }

    #[test]
    fn what_numbers_share_counts_for_each_of_them() {
        let int = [vec![6 << 3 | 1], 7_i64.to_le_bytes().to_vec()].concat();
        let many: Vec<u8> = (0..2000).flat_map(|_| message(1, &int)).collect();
        let metric = message(2, &[message(1, b"n"), message(5, &many)].concat());
        let long = "x".repeat(100_000);
        let resource = message(1, &pair(1, "a", &long));
        let data = message(1, &[resource, message(2, &metric)].concat());
        let mut room = Room { points: 1000, text: 1 << 20 };
        let pushed = read(&data, &mut room).unwrap();
        assert_eq!((pushed.points.len(), pushed.left_out), (10, 1990));
        assert_eq!(room.points, 990);
        assert_eq!(read(&data, &mut room).unwrap().points, [], "there was room for so much only");
        let pairs: Vec<u8> = (0..65).flat_map(|_| pair(1, "a", "b")).collect();
        assert_eq!(read(&message(1, &message(1, &pairs)), &mut room), Err(Malformed));
    }

    #[test]
    fn gauges_and_sums_are_read_with_their_attributes() {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let point = |name: &str, labels: &[(String, String)], is_counter, value| Point {
            name: name.to_owned(),
            labels: labels.to_vec(),
            is_counter,
            value,
        };
        let (group, topic) = (label("group_id", "g"), label("topic", "t"));
        assert_eq!(
            points(&pushed()),
            Ok(vec![
                point("a.rate", &[group.clone(), topic], false, 2.5),
                point("a.total", &[group], true, 7.0),
            ])
        );
        assert_eq!(points(&[]), Ok(vec![]));
    }

    #[test]
    fn nothing_is_read_beyond_what_is_there() {
        let whole = pushed();
        for end in 1..whole.len() {
            assert_eq!(points(&whole[..end]), Err(Malformed), "{end}");
        }
        let endless = [&[1 << 3 | 2][..], &[0xff; 11]].concat();
        assert_eq!(points(&endless), Err(Malformed));
    }

    #[test]
    fn any_bytes_have_an_answer() {
        let whole = pushed();
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut bent = whole.clone();
                bent[at] = byte;
                _ = points(&bent);
                _ = points(&bent[at..]);
            }
        }
    }
}
