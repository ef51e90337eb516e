import { NsdbError } from "./error.ts";
import type { ProtobufField, ProtobufValue } from "./protobuf-text.ts";
import { LARGEST_HALF, uuidFromHalves, uuidToHalves } from "./uuid.ts";

type Fields = readonly ProtobufField[];

/** All values of a field, in order. */
export function allValues(fields: Fields, name: string): ProtobufValue[] {
  return fields.filter((field) => field.name === name).map((field) => field.value);
}

/** The value of a field that does not repeat: the last one counts, as for MidoNet's parser. */
export function lastValue(fields: Fields, name: string): ProtobufValue | undefined {
  return fields.findLast((field) => field.name === name)?.value;
}

/** A string. @throws {NsdbError} `malformed`, as all that read here; `name` is what it calls the field. */
export function readString(value: ProtobufValue | undefined, name: string): string | undefined {
  if (value === undefined) return undefined;
  if (value.kind === "string") return value.bytes.toString("utf8");
  throw wrongValue(name, value, "a string in quotes");
}

/** A truth value, in any spelling of the parser's. */
export function readBoolean(value: ProtobufValue | undefined, name: string): boolean | undefined {
  if (value === undefined) return undefined;
  const text = value.kind === "scalar" ? value.text : "";
  if (text === "true" || text === "t" || text === "1") return true;
  if (text === "false" || text === "f" || text === "0") return false;
  throw wrongValue(name, value, "true or false");
}

/** The name of an enumerator that is given by name or by number. */
export function readEnum<Name extends string>(
  value: ProtobufValue | undefined,
  name: string,
  numbers: Readonly<Record<Name, number>>,
): Name | undefined {
  if (value === undefined) return undefined;
  const names = Object.keys(numbers) as Name[]; // Object.keys forgets that these are the record's own keys.
  const text = value.kind === "scalar" ? value.text : "";
  const isNumber = /^[+-]?\d/.test(text);
  const found = names.find((candidate) =>
    isNumber ? BigInt(numbers[candidate]) === readInteger(text) : candidate === text,
  );
  if (found === undefined) throw wrongValue(name, value, `one of ${names.join(", ")}`);
  return found;
}

/** A whole number that must be there. */
export function readUint(value: ProtobufValue | undefined, name: string, largest = LARGEST_HALF): bigint {
  const number = value?.kind === "scalar" ? readInteger(value.text) : undefined;
  if (number !== undefined && number >= 0n && number <= largest) return number;
  throw wrongValue(name, value, `a whole number from 0 to ${largest}`);
}

/** The fields of a message that must be there. */
export function readMessage(value: ProtobufValue | undefined, name: string): Fields {
  if (value?.kind === "message") return value.fields;
  throw wrongValue(name, value, 'a message in "{ }"');
}

/** A UUID from its two halves, both of which must be there. @source MidoNet commons.proto */
export function readUuid(value: ProtobufValue, name: string): string {
  const halves = readMessage(value, name);
  return uuidFromHalves({
    msb: readUint(lastValue(halves, "msb"), `${name}.msb`),
    lsb: readUint(lastValue(halves, "lsb"), `${name}.lsb`),
  });
}

/** A message of these fields. */
export function messageValue(fields: Fields): ProtobufValue {
  return { kind: "message", fields };
}

/** A string, to be printed in quotes. */
export function stringValue(text: string): ProtobufValue {
  return { kind: "string", bytes: Buffer.from(text, "utf8") };
}

/** A number, truth value or enumerator, spelled as it will be printed. */
export function scalarValue(text: string): ProtobufValue {
  return { kind: "scalar", text };
}

/** A UUID message of its two halves. */
export function uuidValue(uuid: string): ProtobufValue {
  const { msb, lsb } = uuidToHalves(uuid);
  return messageValue([
    { name: "msb", value: scalarValue(String(msb)) },
    { name: "lsb", value: scalarValue(String(lsb)) },
  ]);
}

/**
 * The fields with all values of one replaced by others (none removes it), at the place that MidoNet's printer would
 * give it. Everything else stays as it is, also what we do not know.
 *
 * @param order The names of the message's known fields by field number.
 */
export function withField(
  fields: Fields,
  order: readonly string[],
  name: string,
  values: readonly ProtobufValue[],
): ProtobufField[] {
  const others = fields.filter((field) => field.name !== name);
  const rank = order.indexOf(name);
  const later = others.findIndex((field) => order.indexOf(field.name) > rank);
  return others.toSpliced(
    later === -1 ? others.length : later,
    0,
    ...values.map((value) => ({ name, value })),
  );
}

/** @source protobuf-java TextFormat.parseInteger: decimal, `0x` hexadecimal, `0` octal */
function readInteger(text: string): bigint | undefined {
  const match = /^(-?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)|(\d+))$/.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, octal, decimal] = match;
  const size = BigInt(hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o${octal}` : (decimal ?? "0"));
  return sign === "-" ? -size : size;
}

function wrongValue(name: string, value: ProtobufValue | undefined, expected: string): NsdbError {
  return new NsdbError("malformed", `field "${name}" is ${shown(value)}, but should be ${expected}`);
}

function shown(value: ProtobufValue | undefined): string {
  if (value === undefined) return "missing";
  if (value.kind === "message") return "a message";
  const text = value.kind === "string" ? JSON.stringify(value.bytes.toString("utf8")) : value.text;
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
