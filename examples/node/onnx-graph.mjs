// ONNX graphs written by hand: just enough of the protobuf format (onnx.proto3) for a few nodes between float matrices.
const FLOAT = 1;
const INT = 2; // AttributeProto.type

const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
const number = (field, n) => [...varint(field << 3), ...varint(n)];
const bytes = (field, content) => [...varint((field << 3) | 2), ...varint(content.length), ...content];
const text = (field, string) => bytes(field, [...Buffer.from(string)]);

const attribute = ([name, value]) => [...text(1, name), ...number(3, value), ...number(20, INT)];

function node({ op, inputs, output, attributes = {} }) {
  const names = [...inputs.flatMap((name) => text(1, name)), ...text(2, output)];
  return [...names, ...text(4, op), ...Object.entries(attributes).flatMap((a) => bytes(5, attribute(a)))];
}

function matrix([name, shape]) {
  const dims = shape.flatMap((n) => bytes(1, number(1, n)));
  return [...text(1, name), ...bytes(2, bytes(1, [...number(1, FLOAT), ...bytes(2, dims)]))];
}

/**
 * A model as onnxruntime reads it.
 * @param inputs, outputs { name: shape }
 * @param nodes in the order in which they are computed: { op, inputs: names, output: name, attributes?: { name: integer } }
 */
export function onnxModel({ inputs, outputs, nodes }) {
  const graph = [
    ...nodes.flatMap((n) => bytes(1, node(n))),
    ...text(2, 'graph'),
    ...Object.entries(inputs).flatMap((input) => bytes(11, matrix(input))),
    ...Object.entries(outputs).flatMap((output) => bytes(12, matrix(output))),
  ];
  const opset = [...text(1, ''), ...number(2, 13)];
  return Uint8Array.from([...number(1, 8), ...bytes(7, graph), ...bytes(8, opset)]);
}
