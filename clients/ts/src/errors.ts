/**
 * Every failure that a client meets: one class per code, so that programs catch what they mean.
 *
 * The network names a failure by a code (`data["error"]`). `errorOf` makes the error for it. A code
 * without a class, of a newer network, becomes a `NetworkError` with that code.
 */

export type ErrorData = Record<string, unknown>;

interface Details {
  code?: string;
  data?: ErrorData;
  cause?: unknown;
}

/** The base of every error of this package. */
export class ModvisorClientError extends Error {
  static readonly code: string = "client_error";
  /** What programs compare. */
  readonly code: string;
  /** What the network says besides; for example `retry_after` of `too_many`. */
  readonly data: ErrorData;

  constructor(message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    const kind = new.target as typeof ModvisorClientError;
    this.name = kind.name;
    this.code = details.code ?? kind.code;
    this.data = { ...details.data };
  }
}

// -- of the client itself

/** No network answered at the address, or the connection was lost and did not come back in time. */
export class Unreachable extends ModvisorClientError {
  static override readonly code: string = "unreachable";
}

/** The client was closed, or was never opened. */
export class Closed extends ModvisorClientError {
  static override readonly code: string = "closed";
}

/** A newer connection of the same agent has taken over. This client does not reconnect. */
export class TakenOver extends ModvisorClientError {
  static override readonly code: string = "taken_over";
}

/** A value that this client cannot use; nothing was sent. */
export class BadUse extends ModvisorClientError {
  static override readonly code: string = "bad_use";
}

/** The other side sent what the protocol does not know: probably no modvisor network, or a newer one. */
export class RemoteProtocolError extends ModvisorClientError {
  static override readonly code: string = "remote_protocol_error";
}

// -- what the network answers

/** The network answered with a failure. */
export class NetworkError extends ModvisorClientError {
  static override readonly code: string = "internal_error";
}

/** A value in the request is wrong; the message names it. */
export class BadInput extends NetworkError {
  static override readonly code: string = "bad_input";
}

/** The event does not follow the grammar; the message names the field. */
export class InvalidEvent extends NetworkError {
  static override readonly code: string = "invalid_event";
}

/** The network has no such command. */
export class UnknownEvent extends NetworkError {
  static override readonly code: string = "unknown_event";
}

/** A configuration with mistakes; `data["problems"]` lists them. */
export class BadConfig extends NetworkError {
  static override readonly code: string = "bad_config";
}

/** A value that cannot travel; the message names its place. */
export class Unserializable extends NetworkError {
  static override readonly code: string = "unserializable";
}

/** The event is larger than the network takes. */
export class TooLarge extends NetworkError {
  static override readonly code: string = "too_large";
}

/** A chain of events that caused one another was cut. */
export class Loop extends NetworkError {
  static override readonly code: string = "loop";
}

/** The secret or password is wrong, or the agent is not registered. */
export class Unauthenticated extends NetworkError {
  static override readonly code: string = "unauthenticated";
}

/** The agent may not do this. */
export class Forbidden extends NetworkError {
  static override readonly code: string = "forbidden";
}

/** A live agent has the id. */
export class IdTaken extends NetworkError {
  static override readonly code: string = "id_taken";
}

/** Too many requests, agents or wrong passwords; `data["retry_after"]` says how many seconds to wait. */
export class TooMany extends NetworkError {
  static override readonly code: string = "too_many";
}

/** No such mod is loaded. */
export class NoSuchMod extends NetworkError {
  static override readonly code: string = "no_such_mod";
}

/** No such agent is registered. */
export class NoSuchAgent extends NetworkError {
  static override readonly code: string = "no_such_agent";
}

/** There is no such channel. */
export class NoSuchChannel extends NetworkError {
  static override readonly code: string = "no_such_channel";
}

/** There is no such group. */
export class NoSuchGroup extends NetworkError {
  static override readonly code: string = "no_such_group";
}

/** The mod does not serve this agent. */
export class NotInAudience extends NetworkError {
  static override readonly code: string = "not_in_audience";
}

/** What was asked for does not exist. */
export class NotFound extends NetworkError {
  static override readonly code: string = "not_found";
}

/** The request does not fit what is there. */
export class Conflict extends NetworkError {
  static override readonly code: string = "conflict";
}

/** The receiver's inbox is full. */
export class InboxFull extends NetworkError {
  static override readonly code: string = "inbox_full";
}

/** The handler of a mod or of an agent raised. */
export class HandlerError extends NetworkError {
  static override readonly code: string = "handler_error";
}

/** The answer did not come before the deadline. */
export class Timeout extends NetworkError {
  static override readonly code: string = "timeout";
}

/** The mod has too many events waiting. */
export class Overloaded extends NetworkError {
  static override readonly code: string = "overloaded";
}

/** The mod's process ended while it handled the event. */
export class ModCrashed extends NetworkError {
  static override readonly code: string = "mod_crashed";
}

/** The mod was unloaded while the event waited. */
export class ModUnloaded extends NetworkError {
  static override readonly code: string = "mod_unloaded";
}

/** The mod does not run at the moment. */
export class ModAway extends NetworkError {
  static override readonly code: string = "mod_away";
}

/** The mod ran into one of its limits. */
export class LimitHit extends NetworkError {
  static override readonly code: string = "limit_hit";
}

/** The event ended the mod's process too often and was given up. */
export class DeadLettered extends NetworkError {
  static override readonly code: string = "dead_lettered";
}

/** The event was accepted, and its answer is still due. */
export class Pending extends NetworkError {
  static override readonly code: string = "pending";
}

/** The network's disk is full. */
export class StorageFull extends NetworkError {
  static override readonly code: string = "storage_full";
}

/** The servers that join the network's nodes do not answer. It connects again by itself. */
export class ClusterDown extends NetworkError {
  static override readonly code: string = "cluster_down";
}

/** The servers that join the network's nodes refuse this node. */
export class ClusterRefused extends NetworkError {
  static override readonly code: string = "cluster_refused";
}

/** The node may not run the mod any more. Another node takes it over. */
export class LeaseLost extends NetworkError {
  static override readonly code: string = "lease_lost";
}

/** The network starts or stops. */
export class NotRunning extends NetworkError {
  static override readonly code: string = "not_running";
}

/** Too much is under way; try again. */
export class Busy extends NetworkError {
  static override readonly code: string = "busy";
}

/** The base of what can go wrong with the load of a mod. */
export class LoadError extends NetworkError {
  static override readonly code: string = "start_failed";
}

/** The mod's code cannot be imported. */
export class ImportFailed extends LoadError {
  static override readonly code: string = "import_failed";
}

/** The module holds no mod. */
export class NoModClass extends LoadError {
  static override readonly code: string = "no_mod_class";
}

/** The module holds several mods. */
export class AmbiguousModClass extends LoadError {
  static override readonly code: string = "ambiguous_mod_class";
}

/** The mod's class breaks a rule. */
export class InvalidMod extends LoadError {
  static override readonly code: string = "invalid_mod";
}

/** The mod's `initialize` failed. */
export class InitializeFailed extends LoadError {
  static override readonly code: string = "initialize_failed";
}

/** The mod did not start in time. */
export class StartTimeout extends LoadError {
  static override readonly code: string = "start_timeout";
}

/** The mod is not ready yet. */
export class NotReady extends LoadError {
  static override readonly code: string = "not_ready";
}

/** The mod's process could not be started. */
export class StartFailed extends LoadError {
  static override readonly code: string = "start_failed";
}

/** The mod is loaded already. */
export class AlreadyLoaded extends LoadError {
  static override readonly code: string = "already_loaded";
}

/** The new version of the mod refused the state of the old one. */
export class StateRefused extends LoadError {
  static override readonly code: string = "state_refused";
}

/** The mod has another version than the one that was asked for. */
export class WrongVersion extends LoadError {
  static override readonly code: string = "wrong_version";
}

/** The mod's Python cannot be used. */
export class BadPython extends LoadError {
  static override readonly code: string = "bad_python";
}

/** The mod's command cannot be started. */
export class BadCommand extends LoadError {
  static override readonly code: string = "bad_command";
}

/** The mod requires another one that is not there. */
export class UnmetRequirement extends LoadError {
  static override readonly code: string = "unmet_requirement";
}

/** A mod that this one requires could not be loaded. */
export class DependencyFailed extends LoadError {
  static override readonly code: string = "dependency_failed";
}

/** Other mods need the mod. */
export class Needed extends LoadError {
  static override readonly code: string = "needed";
}

/** The mod cannot be confined as its entry asks. */
export class NotConfined extends LoadError {
  static override readonly code: string = "not_confined";
}

/** The network does not understand the client. */
export class ProtocolError extends NetworkError {
  static override readonly code: string = "protocol_error";
}

/** The network and its mod, or its client, speak different versions of the protocol. */
export class ProtocolMismatch extends NetworkError {
  static override readonly code: string = "protocol_mismatch";
}

/** The network failed; its log has the traceback. */
export class InternalError extends NetworkError {
  static override readonly code: string = "internal_error";
}

const KINDS: readonly (typeof ModvisorClientError)[] = [
  Unreachable,
  Closed,
  TakenOver,
  BadUse,
  RemoteProtocolError,
  BadInput,
  InvalidEvent,
  UnknownEvent,
  BadConfig,
  Unserializable,
  TooLarge,
  Loop,
  Unauthenticated,
  Forbidden,
  IdTaken,
  TooMany,
  NoSuchMod,
  NoSuchAgent,
  NoSuchChannel,
  NoSuchGroup,
  NotInAudience,
  NotFound,
  Conflict,
  InboxFull,
  HandlerError,
  Timeout,
  Overloaded,
  ModCrashed,
  ModUnloaded,
  ModAway,
  LimitHit,
  DeadLettered,
  Pending,
  StorageFull,
  ClusterDown,
  ClusterRefused,
  LeaseLost,
  NotRunning,
  Busy,
  ImportFailed,
  NoModClass,
  AmbiguousModClass,
  InvalidMod,
  InitializeFailed,
  StartTimeout,
  NotReady,
  StartFailed,
  AlreadyLoaded,
  StateRefused,
  WrongVersion,
  BadPython,
  BadCommand,
  UnmetRequirement,
  DependencyFailed,
  Needed,
  NotConfined,
  ProtocolError,
  ProtocolMismatch,
  InternalError,
];

const BY_CODE = new Map(KINDS.map((kind) => [kind.code, kind]));

/** Return the error for a code of the network. */
export function errorOf(code: string, message: string, data?: ErrorData): ModvisorClientError {
  const kind = BY_CODE.get(code) ?? NetworkError;
  return new kind(message, data === undefined ? { code } : { code, data });
}
