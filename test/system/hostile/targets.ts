/** Hostile values in each part of a target that a client makes. The service refuses a value and names the key, or stores it as sent. */

import { type Body, isBody, part } from '../../support/api-client.js';
import type { DemoService } from '../../support/demo-client.js';
import { idOf, targetBody } from '../bed/request-bodies.js';
import type { Tally } from './paths.js';
import { type HostileValues, pick, type Random, shownValue } from './values.js';

interface Wish {
  readonly body: Body;
  /** The key that a refusal must name. */
  readonly key: string;
}

const types = ['smb', 'sftp', 'rsync'] as const;

/** Options of the plugin, of other plugins, and of the target's row itself. */
const optionNames = ['hostKey', 'privateKey', 'passphrase', 'domain', 'pieceMiB', 'host', 'password', 'base', '__proto__', 'constructor'];

function addressWith(random: Random, value: string): string {
  const forms = [
    value,
    value,
    `${value}:22`,
    `127.0.0.1:${value}`,
    `[${value}]:22`,
    `[::1]:22${value}`,
    `127.0.0.1${value}`,
    `nas.lan:22 ${value}`,
  ];
  return pick(random, forms);
}

/** A body with `value` in one key and good values in the others. */
function wishOf(random: Random, values: HostileValues): Wish {
  const value = values.next();
  const type = pick(random, [...types, 'none', 'none'] as const);
  const typed: Body = type === 'none' ? {} : { type };
  const with_ = (key: string, more: Body): Wish => ({ key, body: targetBody({ ...typed, ...more }) });
  const key = pick(random, ['name', 'ipaddr', 'username', 'username', 'password', 'desc', 'base', 'base', 'type', 'options', 'odd']);
  if (key === 'ipaddr') return with_(key, { ipaddr: addressWith(random, value) });
  if (key === 'base') return with_(key, { base: pick(random, [value, `/${value}`, `/~/${value}`, `/data/${value}`]) });
  if (key === 'options') return with_(key, { options: ownKey(pick(random, optionNames), value) });
  if (key === 'odd') return with_('options', { options: ownKey(value, pick(random, ['x', 1, true, null])) });
  return with_(key, { [key]: value });
}

/** Sets a key. Works for `__proto__`, too, which an object literal would take for the prototype. */
const ownKey = (key: string, value: unknown): Body => Object.fromEntries([[key, value]]);

/** Options that no answer shows. */
const secrets = ['privateKey', 'passphrase', 'password'];

/** Keys of the body whose values differ in the answer. */
function differences(sent: Body, got: unknown): string[] {
  const found: string[] = [];
  for (const [key, value] of Object.entries(sent)) {
    if (key === 'password' || key === 'options') continue;
    if (part(got, key) !== value) found.push(`${key} came back as ${shownValue(String(part(got, key)))}`);
  }
  // without a type the service does not know which options are secret, so it shows none
  if (!isBody(sent.options) || sent.type === undefined) return found;
  const shown = part(got, 'options');
  for (const [name, value] of Object.entries(sent.options)) {
    const there = isBody(shown) && Object.hasOwn(shown, name);
    if (secrets.includes(name) ? there : !there || shown[name] !== value) found.push(`option ${shownValue(name)} came back otherwise`);
  }
  return found;
}

/** Makes a target of hostile parts. If the service accepts it, reads it twice and removes it. */
export async function tryTarget(service: DemoService, random: Random, values: HostileValues, tally: Tally): Promise<void> {
  const { body, key } = wishOf(random, values);
  const problem = (what: string): void => void tally.problems.push(`${key}: ${what}: ${shownValue(JSON.stringify(body))}`);
  const { status, json, text } = await service.ask('POST', '/target', JSON.stringify(body));
  tally.codes.set(String(status), (tally.codes.get(String(status)) ?? 0) + 1);
  if (status === 400) {
    tally.refused++;
    const message = part(part(json, 'error'), 'message');
    if (typeof message !== 'string' || !message.includes(`/${key}`)) problem(`the refusal does not name it: ${shownValue(text)}`);
    return;
  }
  if (status !== 200) return problem(`${status} ${shownValue(text)}`);
  tally.stored++;
  const id = idOf(json);
  for (const what of differences(body, json)) problem(`in the answer ${what}`);
  for (const what of differences(body, await service.call('GET', `/target/${id}`))) problem(what);
  const gone = await service.ask('DELETE', `/target/${id}`);
  if (gone.status !== 200) problem(`DELETE: ${gone.status} ${shownValue(gone.text)}`);
}
