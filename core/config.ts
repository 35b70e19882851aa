/** The configuration: flags override variables, the file and defaults, in this order. schemas/service/config.json checks it. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Fields, isFields } from './primitives/guards.js';
import { parse, type Shape, schemaText } from './schemas.js';

/** The configuration, with at least one share. */
export type Config = Shape<'config'> & { readonly share: Readonly<Record<string, string>> };

/** A mistake of the person who starts the service; exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface ConfigSources {
  /** Flags by key, as written; a share is NAME=DIR. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Every key of the schema with its description and default: the names of flags and variables, and the help. */
export function configKeys(): { readonly key: string; readonly description: string; readonly fallback: unknown }[] {
  const properties = schemaText('config').properties;
  if (!isFields(properties)) return [];
  return Object.entries(properties).map(([key, schema]) => ({
    key,
    description: isFields(schema) && typeof schema.description === 'string' ? schema.description : '',
    fallback: isFields(schema) ? schema.default : undefined,
  }));
}

export const flagName = (key: string): string => key.replaceAll('_', '-');
const variableName = (key: string): string => `CONTAINER_BACKUP_${key.toUpperCase()}`;

/** Parses `NAME=DIR` and makes the folder absolute. @throws UsageError */
function shareOf(text: string): [string, string] {
  const cut = text.indexOf('=');
  if (cut < 1 || cut === text.length - 1) throw new UsageError(`a share is NAME=DIR, not ${JSON.stringify(text)}`);
  return [text.slice(0, cut), resolve(text.slice(cut + 1))];
}

const paths: readonly string[] = [
  ...['state', 'lxc_path', 'docker_socket', 'tls_certificate', 'tls_key'],
  ...['update_folder', 'rauc_config', 'ssh_folder'],
];

/** @throws UsageError */
function optionsIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError('runtime_options must be JSON, as {"attic":{"shelf":3}}');
  }
}

/** A value from the command line or a variable, in the form that it has in the file. */
function writtenValue(key: string, written: readonly string[]): unknown {
  if (key === 'share') return Object.fromEntries(written.map(shareOf));
  const last = written.at(-1) ?? '';
  if (key === 'runtime_options') return optionsIn(last);
  if (['new_base_ratio', 'big_file_mib', 'verify_days', 'undo_hours', 'stall_seconds', 'compare_hours'].includes(key)) return Number(last);
  // An empty path must not become the current folder; the schema refuses it.
  return paths.includes(key) && last !== '' ? resolve(last) : last;
}

/** Checks pairs of keys, for which the schema has no clear message. @throws UsageError */
function checkPairs({ tls_certificate, tls_key }: Shape<'config'>): void {
  if ((tls_certificate === undefined) === (tls_key === undefined)) return;
  const missing = tls_key === undefined ? 'tls_key' : 'tls_certificate';
  throw new UsageError(`tls_certificate and tls_key go together: ${missing} is missing; give both, or neither for plain HTTP`);
}

async function fileValues(path: string | undefined): Promise<Fields> {
  if (path === undefined || path === '') return {};
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new UsageError(`the configuration file cannot be read: ${error instanceof Error ? error.message : error}`);
  });
  try {
    const value: unknown = JSON.parse(text);
    if (isFields(value)) return value;
  } catch {
    // reported below
  }
  throw new UsageError(`${path} must hold a JSON object`);
}

/** @throws UsageError */
export async function configOf({ flags, environment }: ConfigSources): Promise<Config> {
  const file = flags.config?.at(-1) ?? environment[variableName('config')];
  const values: Record<string, unknown> = { ...(await fileValues(file)) };
  for (const { key } of configKeys()) {
    // A variable separates several shares by line ends or commas.
    const variable = environment[variableName(key)];
    const written = flags[key] ?? (variable ? (key === 'share' ? variable.split(/[\n,]/).filter(Boolean) : [variable]) : undefined);
    if (written !== undefined) values[key] = writtenValue(key, written);
  }
  const config = checkConfig(values);
  checkPairs(config);
  return { ...config, share: config.share ?? { backup: `${config.state}/share` } };
}

/** @throws UsageError */
function checkConfig(values: Fields): Shape<'config'> {
  try {
    return parse('config', values);
  } catch (error) {
    throw new UsageError(`the configuration is wrong: ${error instanceof Error ? error.message : error}`);
  }
}
