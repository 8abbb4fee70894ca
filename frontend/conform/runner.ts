/** Runs checks one after another; nothing that a back-end does ends the run. */
import { has, VhostFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { BackEndError } from "../errors.ts";
import { type Check, type Outcome, type Result, Verdict } from "./check.ts";
import { type DeviceKind, exercises } from "./exercises.ts";
import { type Offer, Play } from "./play.ts";
import { askSpecs, maySpeak } from "./specs.ts";
import { answers, FIRST_ANSWER, ONE_SHOT_LIMIT, type Target } from "./target.ts";
import { askU64, M, u64 } from "./wire.ts";

export interface RunOptions {
  readonly device: DeviceKind | null;
  readonly checks: readonly Check[];
  readonly started?: (check: Check, index: number) => void;
  readonly finished?: (result: Result) => void;
}

/** Asks a back-end what it offers. Throws when there is none, or none that answers. */
export function probe(target: Target): Offer {
  if (target.owned) target.start();
  const offer = askOffer(target);
  target.oneShot = target.endsWithin(ONE_SHOT_LIMIT);
  target.serving = !target.oneShot;
  if (!maySpeak(offer.protocol)) return { ...offer, specs: null };
  using connection = target.connect();
  return { ...offer, specs: askSpecs(connection, offer.protocol) };
}

function askOffer(target: Target): Omit<Offer, "specs"> {
  // A program may listen a while before it serves.
  using connection = target.connect(Math.max(target.timeout, FIRST_ANSWER));
  const features = askU64(connection, M.GET_FEATURES);
  if (!has(features, VhostFeature.PROTOCOL_FEATURES)) {
    return { features, protocol: 0n, queues: null };
  }
  const protocol = askU64(connection, M.GET_PROTOCOL_FEATURES);
  if (!has(protocol, ProtocolFeature.MQ)) return { features, protocol, queues: null };
  const wanted = 1n << BigInt(ProtocolFeature.MQ);
  connection.send(M.SET_PROTOCOL_FEATURES, u64(wanted));
  return { features, protocol, queues: Number(askU64(connection, M.GET_QUEUE_NUM)) };
}

/** Runs the checks in order. */
export async function runChecks(
  target: Target,
  offer: Offer,
  { device, checks, started, finished }: RunOptions,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const [index, check] of checks.entries()) {
    started?.(check, index);
    const begin = performance.now();
    const play = new Play(target, offer, device, device === null ? null : exercises[device]);
    const verdict = await runOne(play, check);
    const after = await aftermath(target);
    const judged = verdict.outcome === "fail" || after === null ? verdict : failed(after);
    const milliseconds = Math.round(performance.now() - begin);
    const { id, title, source } = check;
    const result = { id, title, source, ...judged, milliseconds };
    results.push(result);
    finished?.(result);
  }
  return results;
}

interface Judgement {
  readonly outcome: Outcome;
  readonly detail: string;
}

const failed = (detail: string): Judgement => ({ outcome: "fail", detail });

async function runOne(play: Play, check: Check): Promise<Judgement> {
  try {
    await check.run(play);
    return { outcome: "pass", detail: "" };
  } catch (error) {
    if (error instanceof Verdict) return { outcome: error.outcome, detail: error.message };
    if (error instanceof BackEndError) return failed(error.message);
    // Whatever else goes wrong began with the back-end as well, and must not end the run.
    return failed(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  } finally {
    play[Symbol.dispose]();
  }
}

/** Says what is wrong with the back-end after a check, and sees to it that the next one finds one. */
async function aftermath(target: Target): Promise<string | null> {
  const serving = target.oneShot ? target.endsWithin(ONE_SHOT_LIMIT) : answers(target);
  // The end of a process is an event.
  await new Promise((resolve) => setTimeout(resolve, 0));
  const ended = target.exits.splice(0);
  const crash = ended.find(({ signal }) => signal !== null || !target.oneShot);
  if (crash !== undefined) {
    const words = target.lastWords;
    const how = crash.signal ?? `status ${crash.code}`;
    if (!target.alive && !target.oneShot) target.start();
    return `the process ended with ${how}${words === "" ? "" : `: ${words}`}`;
  }
  if (serving) return null;
  if (target.oneShot) {
    target.stop();
    return "the process does not end with its only connection";
  }
  if (target.owned) target.restart();
  return "afterwards the back-end answers no new connection";
}
