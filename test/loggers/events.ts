// Reads event files, apart from what writes them: records, checksums bit by bit, the few fields that are used.
export interface ReadEvent {
  wallTime: number;
  step: number;
  version?: string;
  restart?: boolean;
  scalars?: Record<string, number>;
}

/** CRC-32C by polynomial division, one bit at a time. */
function checksum(data: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of data) {
    crc ^= BigInt(byte);
    for (let k = 0; k < 8; ++k) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

type Field = { number: number; value: number; data: Buffer };

function fields(message: Buffer): Field[] {
  const all: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const wire = key & 7;
    const value = wire === 0 || wire === 2 ? varint() : 0;
    const length = { 0: 0, 1: 8, 2: value, 5: 4 }[wire];
    if (length === undefined || at + length > message.length) throw new Error(`bad wire type ${wire} or length`);
    all.push({ number: key >>> 3, value, data: message.subarray(at, at + length) });
    at += length;
  }
  return all;
}

function eventOf(message: Buffer): ReadEvent {
  const event: ReadEvent = { wallTime: NaN, step: 0 };
  for (const { number, value, data } of fields(message)) {
    if (number === 1) event.wallTime = data.readDoubleLE();
    else if (number === 2) event.step = value;
    else if (number === 3) event.version = data.toString();
    else if (number === 7) event.restart = fields(data).some((f) => f.number === 1 && f.value === 1);
    else if (number === 5)
      event.scalars = Object.fromEntries(
        fields(data).map((v) => {
          const inner = fields(v.data);
          return [inner.find((f) => f.number === 1)!.data.toString(), inner.find((f) => f.number === 2)!.data.readFloatLE()];
        }),
      );
    else throw new Error(`unknown field ${number}`);
  }
  return event;
}

/** All events of a file. @throws when a length, a checksum or a message is not right */
export function readEvents(file: Buffer): ReadEvent[] {
  const events: ReadEvent[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    if (file.readUInt32LE(at + 8) !== checksum(file.subarray(at, at + 8))) throw new Error('the length is damaged');
    const data = file.subarray(at + 12, at + 12 + length);
    if (file.readUInt32LE(at + 12 + length) !== checksum(data)) throw new Error('the data is damaged');
    events.push(eventOf(data));
    at += 16 + length;
  }
  return events;
}
