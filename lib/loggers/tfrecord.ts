// TensorBoard's event files: records (length, masked CRC-32C, data, masked CRC-32C) that each hold an Event message. Formats:
// tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let k = 0; k < 8; ++k) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/** CRC-32C (Castagnoli, reflected 0x82f63b78). */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Rotated and shifted, so that the CRC of data that holds CRCs is a good one too. */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;

export function record(data: Uint8Array): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(data.length));
  head.writeUInt32LE(masked(crc32c(head.subarray(0, 8))), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(masked(crc32c(data)));
  return Buffer.concat([head, data, tail]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
const key = (field: number, wire: keyof typeof WIRE): Buffer => varint(field * 8 + WIRE[wire]);

function bytes(field: number, value: Uint8Array | string): Buffer {
  const data = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([key(field, 'bytes'), varint(data.length), data]);
}

function double(field: number, value: number): Buffer {
  const data = Buffer.alloc(8);
  data.writeDoubleLE(value);
  return Buffer.concat([key(field, 'fixed64'), data]);
}

function float(field: number, value: number): Buffer {
  const data = Buffer.alloc(4);
  data.writeFloatLE(value);
  return Buffer.concat([key(field, 'fixed32'), data]);
}

/** Event: wall_time = 1, step = 2 (0 is not written), and one of what. */
const event = (wallTime: number, step: number, what: Buffer): Buffer =>
  Buffer.concat([double(1, wallTime), step > 0 ? Buffer.concat([key(2, 'varint'), varint(step)]) : Buffer.alloc(0), what]);

/** The first record of a file: file_version = 3. */
export const versionRecord = (wallTime: number): Buffer => record(event(wallTime, 0, bytes(3, 'brain.Event:2')));

/** session_log = 7 { status = 1: START }: TensorBoard then forgets earlier events from `step` on, which a resumed run repeats. */
export const restartRecord = (wallTime: number, step: number): Buffer => record(event(wallTime, step, bytes(7, Uint8Array.of(8, 1))));

/** summary = 5 { value = 1 { tag = 1, simple_value = 2 } ... } */
export function scalarsRecord(wallTime: number, step: number, scalars: Readonly<Record<string, number>>): Buffer {
  const values = Object.entries(scalars).map(([tag, value]) => bytes(1, Buffer.concat([bytes(1, tag), float(2, value)])));
  return record(event(wallTime, step, bytes(5, Buffer.concat(values))));
}
