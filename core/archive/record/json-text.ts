/** JSON that anybody may have written. JSON.parse recurses as deep as a text goes, and makes up to twenty bytes of one, so that
 *  the text is looked through first. */
import { PluginError } from '../../contract/index.js';

const mostLevels = 64;
/** Three levels of 10,000 sources are 450,000 values. So many of the costliest kind take some 60 MiB. */
const mostValues = 600_000;
/** Different keys. A manifest has less than a hundred; for each new one V8 makes a form of objects, of a few hundred bytes. */
const mostKeys = 500;
const longestKey = 1_000;

const [quote, backslash, comma, colon] = ['"', '\\', ',', ':'].map((one) => one.charCodeAt(0));
const [openList, openObject] = ['[', '{'].map((one) => one.charCodeAt(0));
const [closeList, closeObject] = [']', '}'].map((one) => one.charCodeAt(0));

/** Where the string that begins at `from` ends. */
function stringEnd(bytes: Uint8Array, from: number): number {
  let at = from + 1;
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
  return at;
}

/** Counts levels, values and keys; brackets, commas and colons in strings are none. */
function isBounded(bytes: Buffer): boolean {
  const keys = new Set<string>();
  let [depth, values, start, end] = [0, 1, 0, 0];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === quote) {
      start = at;
      at = end = stringEnd(bytes, at);
    } else if (byte === comma) values++;
    else if (byte === colon) {
      if (end - start > longestKey || keys.add(bytes.toString('latin1', start, end)).size > mostKeys) return false;
    } else if (byte === closeList || byte === closeObject) depth--;
    else if (byte === openList || byte === openObject) {
      values++;
      if (++depth > mostLevels) return false;
    }
    if (values > mostValues) return false;
  }
  return true;
}

/** What the text says. @throws PluginError damaged: no JSON in UTF-8, nested deeper than 64 levels, or of more than 600,000 values or
 *  500 keys */
export function parseBoundedJson(bytes: Buffer, where: string): unknown {
  if (!isBounded(bytes))
    throw new PluginError('damaged', `${where} is nested deeper than ${mostLevels} levels, or of more values or keys than any manifest`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new PluginError('damaged', `${where} is no JSON in UTF-8`, { cause });
  }
}
