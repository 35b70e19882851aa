/** Updates of the firmware. */
import { parsed } from '../../schemas.js';
import type { ApiDeps, Updates } from '../deps.js';
import { wrong } from '../errors.js';
import { type Call, type Route, route, toBody } from '../request.js';

/** Content-Length; undefined when the body is sent in chunks. @throws ValidationError for one of nothing */
function lengthOf({ length }: Call): number | undefined {
  if (length === 0) throw wrong('', 'must be the bundle itself, as application/octet-stream');
  return length;
}

/** A body that may be left out. */
async function wishes<Name extends 'update-install' | 'update-reboot'>(call: Call, schema: Name) {
  const text = await call.text();
  const force = call.query.get('force') === '1' || call.query.get('force') === 'true';
  const body = parsed(schema, text.trim() === '' ? {} : toBody(text));
  return { ...body, force: body.force || force };
}

async function install(updates: Updates, call: Call): Promise<object> {
  await updates.install(await wishes(call, 'update-install'));
  return updates.status();
}

async function restart(updates: Updates, call: Call): Promise<object> {
  await updates.restart(await wishes(call, 'update-reboot'));
  return { rebooting: true };
}

async function discard(updates: Updates): Promise<object> {
  await updates.discard();
  return updates.status();
}

/** None when the appliance is not updated by this service. */
export function updateRoutes({ updates }: ApiDeps): Route[] {
  if (updates === undefined) return [];
  const receive = (call: Call) => updates.receive(() => call.stream(), lengthOf(call), call.gone);
  return [
    route('get', '/update/', 'admin', 'The slots, and where an update stands', () => updates.status()),
    route('put', '/update/bundle', 'admin', 'Send a bundle', receive, { binary: true }),
    route('delete', '/update/bundle', 'admin', 'Remove the bundle that was sent', () => discard(updates)),
    route('post', '/update/install', 'admin', 'Install the bundle to the other slot', (c) => install(updates, c), {
      schema: 'update-install',
      status: 202,
    }),
    route('post', '/update/reboot', 'admin', 'Restart the machine', (c) => restart(updates, c), { schema: 'update-reboot', status: 202 }),
  ];
}
