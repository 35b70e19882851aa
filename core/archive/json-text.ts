/** JSON that anybody may have written. JSON.parse recurses as deep as a text goes, and makes up to twenty bytes of one, so that
 *  the text is looked through first. */
import { PluginError } from '../contract/index.js';

const mostLevels = 64;
/** Three levels of 10,000 sources are 450,000 values. So many of the costliest kind take some 60 MiB. */
const mostValues = 600_000;

const [quote, backslash, comma] = ['"', '\\', ','].map((one) => one.charCodeAt(0));
const [openList, openObject] = ['[', '{'].map((one) => one.charCodeAt(0));
const [closeList, closeObject] = [']', '}'].map((one) => one.charCodeAt(0));

/** Where the string that begins at `from` ends. */
function stringEnd(bytes: Uint8Array, from: number): number {
  let at = from + 1;
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
  return at;
}

/** Counts levels and values outside of strings. */
function isBounded(bytes: Uint8Array): boolean {
  let depth = 0;
  let values = 1;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === quote) at = stringEnd(bytes, at);
    else if (byte === comma) values++;
    else if (byte === closeList || byte === closeObject) depth--;
    else if (byte === openList || byte === openObject) {
      values++;
      if (++depth > mostLevels) return false;
    }
    if (values > mostValues) return false;
  }
  return true;
}

/** What the text says. @throws PluginError damaged: no JSON in UTF-8, nested deeper than 64 levels, or of more than 600,000 values */
export function parseBoundedJson(bytes: Uint8Array, where: string): unknown {
  if (!isBounded(bytes))
    throw new PluginError('damaged', `${where} is nested deeper than ${mostLevels} levels or holds more than ${mostValues} values`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new PluginError('damaged', `${where} is no JSON in UTF-8`, { cause });
  }
}
