/** Which files rsync is to look at, and what it says of them. Paths below the place travel in rsync's own protocol, as
 *  filters or lists of files, never in the command: no shell, and no rrsync, ever sees them. */
import { PluginError } from '../../../core/contract/index.js';

/** A path as an anchored pattern, and after it `tail`, which may hold wildcards. A backslash escapes only in a pattern
 *  that has a wildcard; in others it means itself. */
export function pattern(parts: readonly string[], tail = ''): string {
  const path = parts.map((part) => `/${part}`).join('');
  return /[*?[]/.test(path + tail) ? path.replace(/[\\*?[]/g, '\\$&') + tail : path + tail;
}

/** The folders on the way to something. */
export const above = (parts: readonly string[]): string[] => parts.slice(0, -1).map((_, i) => pattern(parts.slice(0, i + 1), '/'));

/** What is on the server under a path. */
export interface Item {
  readonly kind: 'file' | 'folder' | 'other';
  readonly size: number;
  /** When it was last written; rsync runs in UTC. */
  readonly modified: number;
}

const line = /^([a-z-])[-rwxsStTlL]{9}\S*\s+(\d+) (\d+)\/(\d\d)\/(\d\d) (\d\d:\d\d:\d\d) (.*)$/s;

/** What `--list-only` has written: by path, with '.' for the top. Control characters come as \#ooo, and so does the backslash
 *  of a name that looks like that: it can be taken back exactly. */
export function itemsIn(output: string): Map<string, Item> {
  const items = new Map<string, Item>();
  for (const text of output.split('\n')) {
    const [, type, size, year, month, day, time, name] = line.exec(text) ?? [];
    if (name === undefined) continue;
    const kind = type === '-' ? 'file' : type === 'd' ? 'folder' : 'other';
    const path = name.replace(/\\#([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    items.set(path, { kind, size: kind === 'file' ? Number(size) : 0, modified: Date.parse(`${year}-${month}-${day}T${time}Z`) });
  }
  return items;
}

/** The folder on the server that `base` names, as rsync's argument. Unlike all other paths it stands in a command, which a
 *  shell or rrsync takes apart; what they may take for a pattern is refused. @throws PluginError invalid */
export function rootOf(base: readonly string[]): string {
  const odd = base.find((part) => /[*?[\]{}\\\p{Cc}]/u.test(part));
  if (odd !== undefined) {
    const fix = 'take a folder without any of * ? [ ] { } \\ and control characters in its name';
    throw new PluginError('invalid', `options.base: ${JSON.stringify(odd)} cannot be used with rsync; ${fix}`);
  }
  const [first, ...rest] = base;
  const parts = first === '~' ? rest : base;
  return `${first === '~' ? './' : '/'}${parts.map((part) => `${part}/`).join('')}`;
}
