import { PluginError, type PluginErrorCode } from '../../../core/contract/index.js';
import type { Ended } from './child.js';

/** The server and the action, for messages. */
export interface Trial {
  /** "host:port" */
  readonly address: string;
  readonly what: string;
}

interface Rule {
  readonly says: RegExp;
  readonly code: PluginErrorCode;
  readonly fix: string;
}

const missing: Rule = { says: /No such file or directory/i, code: 'not_found', fix: 'look whether it was removed meanwhile' };

const lacksTemp: Rule = { says: /receiver option path does not exist/i, code: 'not_found', fix: 'look whether it was removed meanwhile' };

const busy: Rule = {
  says: /Another instance of rrsync/i,
  code: 'unavailable',
  fix: 'let nobody else use the folder meanwhile, or add -no-lock to the rrsync command there, which lets in several',
};

/** Messages of rsync, rrsync and shells. The first match counts, so causes come before their consequences. */
const rules: readonly Rule[] = [
  { says: /No space left on device|Disk quota exceeded/i, code: 'no_space', fix: 'free some space there or lower the retention' },
  {
    says: /Read-only file system|sending to read-only server/i,
    code: 'read_only',
    fix: 'let the folder be written: mount it so, or take -ro from the rrsync command',
  },
  {
    says: /option .*delete.* has been disabled/i,
    code: 'denied',
    fix: 'take -no-del from the rrsync command there, or backups cannot be removed',
  },
  { says: /reading from write-only server/i, code: 'denied', fix: 'take -wo from the rrsync command there' },
  {
    says: /rsync: (command )?not found|rsync: No such file|exec.*rsync.*No such file|rsync.*is not recognized/i,
    code: 'unsupported',
    fix: 'install rsync on the server, or take another type of target',
  },
  {
    says: /is your shell clean|protocol version mismatch|protocol incompatibility/i,
    code: 'unsupported',
    fix: 'let the login run rsync and print nothing of its own: look at its shell profile and at a forced command',
  },
  busy,
  lacksTemp,
  { says: /failed to set up|Restricted directory does not exist/i, code: 'not_found', fix: 'make the folder that rrsync is restricted to' },
  { says: /File name too long|overlong|over-long/i, code: 'invalid', fix: 'take a shorter name' },
  {
    says: /Invalid argument \(22\)|Invalid or incomplete multibyte/i,
    code: 'invalid',
    fix: 'take a name that the file system there can keep',
  },
  { says: /could not make way for|Is a directory \(21\)/i, code: 'exists', fix: 'a folder is in the way; take another name' },
  { says: /Not a directory \(20\)|File exists \(17\)/i, code: 'invalid', fix: 'a file is where a folder is needed; take another path' },
  {
    says: /Permission denied|Operation not permitted/i,
    code: 'denied',
    fix: 'give the login the right to that folder, or correct base',
  },
  missing,
];

const ruleFor = (text: string): Rule | undefined => rules.find(({ says }) => says.test(text));

const unknownOption = /unknown option|invalid rsync-command syntax or options/i;
/** Exit codes of rsync for a lost connection, and our own for a killed child. */
const lostCodes: ReadonlySet<number> = new Set([10, 12, 20, 30, 35, 255]);

/** Standard error of both sides. */
export const textOf = ({ stderr, remote }: Ended): string => `${remote?.text ?? ''}\n${stderr}`;

/** The first line that is not empty, without rsync's summary if possible. */
function reason(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  const line = lines.find((line) => line !== '' && !/^(rsync error|cat):/.test(line)) ?? lines.find((line) => line !== '');
  return (line ?? 'no reason was given').slice(0, 300);
}

/** Whether the server's rsync, or rrsync, does not know an option. */
export const lacksOption = (ended: Ended): boolean => unknownOption.test(textOf(ended));

/** Whether rrsync was busy: without -no-lock it serves one rsync at a time in its folder. */
export const isBusy = (ended: Ended): boolean => ruleFor(textOf(ended)) === busy;

/** As isBusy, for the error made of such a result. */
export const wasBusy = (error: PluginError): boolean => busy.says.test(error.message);

/** Whether the temporary folder is missing on the server. */
export const lostTemp = (error: PluginError): boolean => lacksTemp.says.test(error.message);

/** Whether the path does not exist. */
export const isMissing = (ended: Ended): boolean => ruleFor(textOf(ended)) === missing;

/** Turns a failed run into a PluginError. */
export function rsyncError(ended: Ended, { address, what }: Trial): PluginError {
  const text = textOf(ended);
  const where = `${address}: ${what}`;
  const rule = ruleFor(text);
  if (rule !== undefined)
    return new PluginError(rule.code, `${where}: ${reason(relevant(text, rule.says))}; ${rule.fix}`, { retryable: rule === busy });
  if (ended.remote === undefined)
    return new PluginError('failed', `rsync could not be run on this appliance: ${reason(text)}; install rsync 3.2 or newer`);
  if (ended.remote.code === 127)
    return new PluginError('unsupported', `${where}: the server cannot run rsync (${reason(text)}); install rsync there`);
  if (unknownOption.test(text))
    return new PluginError('unsupported', `${where}: the server's rsync is too old (${reason(text)}); update it to 3.1 or newer`);
  if (ended.remote.code === undefined || (lostCodes.has(ended.code) && ended.remote.code === ended.code))
    return new PluginError('unavailable', `${where}: the connection was lost (${reason(text)}); check the server and the network`, {
      retryable: true,
    });
  if (lostCodes.has(ended.code)) {
    const fix = 'let the login run rsync: look at its shell and at a forced command';
    return new PluginError('unsupported', `${where}: the server ended rsync with ${ended.remote.code} (${reason(text)}); ${fix}`);
  }
  return new PluginError('failed', `${where}: rsync ended with ${ended.code} (${reason(text)}); see the server's log`);
}

/** Moves the lines that match a rule to the front. */
function relevant(text: string, says: RegExp): string {
  const lines = text.split('\n');
  const found = lines.filter((line) => says.test(line));
  return [...found, ...lines].join('\n');
}
