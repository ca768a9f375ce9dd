//! Metrics that clients push: whatever the bytes, no more is taken than there is room for.

use server::observe::otlp::{self, Room};

/// OpenTelemetry's protocol buffers.
pub(crate) fn pushed_metrics(data: &[u8]) {
    let first = Room { points: 100, text: 1 << 10 };
    let mut room = first;
    let Ok(pushed) = otlp::read(data, &mut room) else { return };
    assert_eq!(pushed.points.len(), first.points - room.points);
    let texts = pushed.points.iter().map(|point| {
        let labels = point.labels.iter().map(|(name, value)| name.len() + value.len());
        point.name.len() + labels.sum::<usize>()
    });
    assert_eq!(texts.sum::<usize>(), first.text - room.text);
}

/// A gauge and a sum with attributes.
pub(crate) fn pushes() -> Vec<Vec<u8>> {
    let message = |number: u8, body: &[u8]| [&[number << 3 | 2, body.len() as u8], body].concat();
    let pair = |number: u8| {
        let any = message(2, &message(1, b"value"));
        message(number, &[message(1, b"key"), any].concat())
    };
    let number = |field: u8| [&[field << 3 | 1][..], &[1; 8]].concat();
    let point = message(1, &[number(4), pair(7)].concat());
    let gauge = message(2, &[message(1, b"a.b"), message(5, &point)].concat());
    let sum = message(7, &[message(1, &number(6)), vec![2 << 3, 2, 3 << 3, 1]].concat());
    let sum = message(2, &[message(1, b"c"), sum].concat());
    let resource = message(1, &pair(1));
    let whole = |metric: &[u8]| message(1, &[resource.clone(), message(2, metric)].concat());
    vec![whole(&gauge), whole(&sum), whole(&[gauge, sum].concat())]
}
