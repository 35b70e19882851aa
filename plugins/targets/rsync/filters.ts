/** Builds rsync's filters and reads its listings. Paths below the base travel in rsync's protocol, as filters or lists of files,
 *  and never in the command, so that no shell and no rrsync ever parses them. */
import { PluginError } from '../../../core/contract/index.js';

/** An anchored pattern of a path, followed by `tail`, which may hold wildcards. A backslash escapes only in a pattern with a
 *  wildcard; in others it means itself. */
export function pattern(parts: readonly string[], tail = ''): string {
  const path = parts.map((part) => `/${part}`).join('');
  return /[*?[]/.test(path + tail) ? path.replace(/[\\*?[]/g, '\\$&') + tail : path + tail;
}

/** Patterns of all parent folders. */
export const above = (parts: readonly string[]): string[] => parts.slice(0, -1).map((_, i) => pattern(parts.slice(0, i + 1), '/'));

/** An entry on the server. */
export interface Item {
  readonly kind: 'file' | 'folder' | 'other';
  readonly size: number;
  /** Last write, epoch ms; rsync runs in UTC. */
  readonly modified: number;
}

const line = /^([a-z-])[-rwxsStTlL]{9}\S*\s+(\d+) (\d+)\/(\d\d)\/(\d\d) (\d\d:\d\d:\d\d) (.*)$/s;

/** Parses the output of `--list-only` into items by path, with '.' for the top. rsync writes control characters as \#ooo, and also
 *  the backslash of a name that looks like that, so the decoding is exact. */
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

/** The folder that `base` names, as rsync's argument. Unlike all other paths it is part of the command, which a shell or rrsync
 *  parses, so characters of patterns are refused. @throws PluginError invalid */
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
