/** Parses untrusted JSON. JSON.parse recurses as deep as the text is nested, and one byte of text may take twenty in memory, so
 *  the text is scanned first. */
import { PluginError } from '../../contract/index.js';

const mostLevels = 64;
/** Three levels of 10,000 sources are 450,000 values. This many of the costliest kind take some 60 MiB. */
const mostValues = 600_000;
/** Distinct keys. A manifest has fewer than a hundred; each new key costs V8 a hidden class of a few hundred bytes. */
const mostKeys = 500;
const longestKey = 1_000;

const [quote, backslash, comma, colon] = ['"', '\\', ',', ':'].map((one) => one.charCodeAt(0));
const [openList, openObject] = ['[', '{'].map((one) => one.charCodeAt(0));
const [closeList, closeObject] = [']', '}'].map((one) => one.charCodeAt(0));

/** Position of the closing quote of the string that begins at `from`. */
function stringEnd(bytes: Uint8Array, from: number): number {
  let at = from + 1;
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
  return at;
}

/** A key as JSON.parse takes it, whatever its escapes, in latin1. `start` and `end` are its quotes. */
function keyAt(bytes: Buffer, start: number, end: number): string {
  const raw = bytes.toString('latin1', start + 1, end);
  if (!raw.includes('\\')) return raw;
  try {
    const key: unknown = JSON.parse(bytes.toString('utf8', start, end + 1));
    return Buffer.from(String(key)).toString('latin1');
  } catch {
    return raw; // the text is no JSON, and its parser says so
  }
}

/** Counts levels, values and keys, and compares the keys of each object; ignores brackets, commas and colons inside strings. */
function isBounded(bytes: Buffer): boolean {
  const keys = new Set<string>();
  /** Keys of the open objects, by their level. */
  const own: (Set<string> | undefined)[] = [];
  let [depth, values, start, end] = [0, 1, 0, 0];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === quote) {
      start = at;
      at = end = stringEnd(bytes, at);
    } else if (byte === comma) values++;
    else if (byte === colon) {
      if (end - start > longestKey) return false;
      const key = keyAt(bytes, start, end);
      own[depth] ??= new Set();
      if (own[depth]?.has(key) || keys.add(key).size > mostKeys) return false;
      own[depth]?.add(key);
    } else if (byte === closeList || byte === closeObject) depth--;
    else if (byte === openList || byte === openObject) {
      values++;
      if (++depth > mostLevels) return false;
      own[depth] = undefined;
    }
    if (values > mostValues) return false;
  }
  return true;
}

/** Parses the text. @throws PluginError damaged: no JSON in UTF-8, nested deeper than 64 levels, more than 600,000 values or 500
 *  keys, or a key twice in one object, of which some programs read the first and some the last */
export function parseBoundedJson(bytes: Buffer, where: string): unknown {
  if (!isBounded(bytes))
    throw new PluginError(
      'damaged',
      `${where} is nested deeper than ${mostLevels} levels, has more values or keys than any manifest, or a key twice in one object`,
    );
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new PluginError('damaged', `${where} is no JSON in UTF-8`, { cause });
  }
}
