/** Opens every target of a plugin, so that none escapes the policy. */
import { anySignal, type Target } from '../contract/index.js';
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import { Bandwidth, type Policy, type PolicyTarget, stallError, withPolicy } from '../policy/index.js';
import { settleWithin } from '../primitives/deadline.js';

/** The policy that a caller chooses for its target. */
export interface PolicyOpening extends PluginOpening, Pick<Policy, 'stallMs' | 'connections' | 'waits'> {
  /** No limit when absent. */
  readonly bandwidth?: Bandwidth;
}

interface Opened {
  readonly id: string;
  readonly options: unknown;
  readonly name: string;
}

/** Opens a target by its plugin. Messages call it `name`. @throws as Plugins.openTarget; PluginError stalled: the plugin does not open
 *  it within `stallMs` */
export async function openUnderPolicy(plugins: Plugins, plugin: Opened, o: PolicyOpening): Promise<PolicyTarget> {
  const { signal, log, bandwidth = new Bandwidth(), stallMs, connections, waits } = o;
  const target = await openInTime(plugins, plugin, { signal, log, stallMs });
  const more = { ...(connections !== undefined && { connections }), ...(waits && { waits }) };
  return withPolicy(target, { name: plugin.name, bandwidth, stallMs, signal, log, ...more });
}

/** A plugin that opens its target too late has it disposed then. */
async function openInTime(
  plugins: Plugins,
  { id, options, name }: Opened,
  { signal, log, stallMs }: Pick<PolicyOpening, 'signal' | 'log' | 'stallMs'>,
): Promise<Target> {
  const givenUp = new AbortController();
  const opening = plugins.openTarget(id, options, { signal: anySignal(signal, givenUp.signal), log });
  try {
    return await settleWithin(stallMs, opening, () => stallError(`${name}, opening it`, stallMs));
  } catch (error) {
    givenUp.abort();
    opening
      .then((late) => late[Symbol.asyncDispose]())
      .catch((cause) => log('debug', `${name} was given up while it was opened: ${cause}`));
    throw error;
  }
}
