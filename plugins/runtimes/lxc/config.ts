import { randomBytes } from 'node:crypto';
import { decodeField } from '../../shared/mounts.js';

/** An assignment of an LXC configuration; `line` is its index. */
export interface Setting {
  readonly line: number;
  readonly key: string;
  readonly value: string;
}

/** A mount entry's fields, decoded. */
export interface MountEntry {
  readonly source: string;
  readonly mountpoint: string;
  readonly type: string;
  readonly options: readonly string[];
}

interface Line {
  readonly key: string;
  readonly value: string;
  /** The text before and after the value. */
  readonly before: string;
  readonly after: string;
}

/** Splits a line without one regular expression for all of it: a crafted record could make that one backtrack for hours. */
function assignment(content: string): Line | undefined {
  const equals = content.indexOf('=');
  const key = content.slice(0, equals).trim();
  if (equals < 0 || !/^[^\s#]+$/.test(key)) return undefined;
  const rest = content.slice(equals + 1).replace(/^[ \t]+/, '');
  const value = rest.trimEnd();
  const start = content.length - rest.length;
  return { key, value, before: content.slice(0, start), after: content.slice(start + value.length) };
}

/** All assignments in the order of the file; comments and empty lines are skipped. */
export function settings(text: string): Setting[] {
  return text.split('\n').flatMap((content, line) => {
    const found = assignment(content);
    return found === undefined ? [] : [{ key: found.key, line, value: found.value }];
  });
}

/** The value that LXC uses: that of the last assignment. */
export function setting(text: string, key: string): string | undefined {
  return settings(text).findLast((one) => one.key === key)?.value;
}

/** Replaces values. Lines whose value `change` leaves equal stay byte for byte, with comments and blanks. */
export function rewrite(text: string, change: (one: Setting) => string): string {
  const lines = text.split('\n');
  for (const one of settings(text)) {
    const value = change(one);
    const content = lines[one.line];
    const found = content === undefined ? undefined : assignment(content);
    if (found && value !== one.value) lines[one.line] = `${found.before}${value}${found.after}`;
  }
  return lines.join('\n');
}

function encode(field: string): string {
  return field.replace(/[\s\\]/g, (blank) => `\\${blank.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** The fields of lxc.mount.entry's value; undefined when it has too few. */
export function mountEntry(value: string): MountEntry | undefined {
  const [source, mountpoint, type, options] = value.trim().split(/\s+/);
  if (source === undefined || mountpoint === undefined || type === undefined) return undefined;
  return { mountpoint: decodeField(mountpoint), options: (options ?? '').split(','), source: decodeField(source), type };
}

/** The value with another source folder; all other fields as they were written. */
export function withMountSource(value: string, change: (source: string) => string): string {
  const field = /^\s*\S+/.exec(value)?.[0];
  if (field === undefined) return value;
  const source = decodeField(field.trim());
  const changed = change(source);
  return changed === source ? value : encode(changed) + value.slice(field.length);
}

/** The value with one more mount option; options that contradict it are dropped. */
export function withMountOption(value: string, option: 'ro'): string {
  const [source, mountpoint, type, options = '', ...rest] = value.trim().split(/\s+/);
  const others = options.split(',').filter((one) => one !== '' && one !== 'rw' && one !== option);
  return [source, mountpoint, type, [...others, option].join(','), ...rest].join(' ');
}

/** The root's backing store and path; `dir` is a plain folder. */
export function rootOf(text: string): { readonly backing: string; readonly path: string } | undefined {
  const value = setting(text, 'lxc.rootfs.path');
  if (value === undefined || value === '') return undefined;
  const [, backing, path] = /^([a-z]+):(.*)$/.exec(value) ?? [undefined, 'dir', value];
  return backing === undefined || path === undefined ? undefined : { backing, path };
}

/** Fixed addresses of a configuration's networks, without the prefix length. */
export function addresses(text: string): string[] {
  return settings(text)
    .filter(({ key, value }) => /^lxc\.net\.\d+\.ipv[46]\.address$/.test(key) && value !== '')
    .map(({ value }) => (value.split(/[/\s]/)[0] ?? value).toLowerCase());
}

/** A random MAC address from LXC's range. */
export function newMac(): string {
  return ['00', '16', '3e', ...[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
