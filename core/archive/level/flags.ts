/** Inode flags (chattr(1)), which tar does not store: immutable `i`, append-only `a`, nodump `d`, no copy-on-write `C`. */
import { PluginError } from '../../contract/index.js';
import { type ConfinedTree, namesOutcome } from './sandbox.js';

export interface FlaggedEntry {
  /** Relative to the source, `.` for itself. Bytes other than printable ASCII are `\ooo`, as in tar's list: a name need not be
   *  text. */
  readonly path: string;
  /** Letters of `iadC`. */
  readonly flags: string;
}

/** A name, its bytes as latin-1, in the form of tar's list (`--quoting-style=escape`). */
export const quoteName = (name: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: names may hold them
  name.replace(/[\x00-\x1f\x7f-\xff\\]/g, (one) => (one === '\\' ? '\\\\' : `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`));

const letters: Readonly<Record<string, string>> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** The name's bytes as latin-1. */
export const unquoteName = (quoted: string): string =>
  quoted.replace(/\\([0-7]{3}|.)/g, (_all, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8) & 0xff) : (letters[code] ?? code),
  );

/** Whether a path has the form of a search result: it must not lead out of the source. */
export function isFlaggedPath(path: string): boolean {
  const name = unquoteName(path);
  return name === '.' || (!name.includes('\0') && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..'));
}

/** Accepts 123, xargs's exit code when the command failed for some names. @throws PluginError failed */
export function checkXargs(code: number, command: string): void {
  if (code !== 0 && code !== 123) throw new PluginError('failed', `${command} ended with ${code}: is the package e2fsprogs installed?`);
}

/** @returns chattr's messages for names that it could not change */
async function changed(tree: ConfinedTree, change: string, names: readonly string[], signal: AbortSignal): Promise<string> {
  const { code, said } = await namesOutcome(tree, 'chattr', ['chattr', change, '--'], names, signal);
  checkXargs(code, 'chattr');
  return code === 0 ? '' : said.trim();
}

/** Sets the flags of what was extracted into a folder, as the last step. A file system may lack some of them.
 *  @param entries from a manifest, so untrusted: the sandbox keeps symlinks in a path from leading outside
 *  @returns chattr's messages for flags that could not be set; '' when all are set */
export async function setFlags(folder: string, entries: readonly FlaggedEntry[], signal: AbortSignal): Promise<string> {
  const tree: ConfinedTree = { kind: 'folder', path: folder, access: 'write' };
  const groups = new Map<string, string[]>();
  const add = (flags: string, name: string) => {
    const names = groups.get(flags) ?? [];
    groups.set(flags, names);
    names.push(name);
  };
  for (const { path, flags } of entries) if (flags.includes('C')) add('C', unquoteName(path));
  for (const { path, flags } of entries) if (flags !== 'C') add(flags.replace('C', ''), unquoteName(path));
  let said = '';
  for (const [flags, names] of groups) {
    const failed = await changed(tree, `+${flags}`, names, signal);
    if (flags !== 'C') said ||= failed; // `C` cannot be set on a file that has content
  }
  return said;
}
