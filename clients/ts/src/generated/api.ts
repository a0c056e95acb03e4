// Printed from docs/openapi/agents.json by `npm run generate`; do not edit.

export interface Failure {
  success: false;
  error: string | null;
  message: string;
  error_message: string;
  data: unknown;
}
export interface HealthAnswer {
  success: true;
  status: string;
  data: {
    network_id: string;
    network_name: string;
    is_running: boolean;
    uptime_seconds: number;
    topology_mode: string;
    transports: {
      type: string;
      config: {
        [k: string]: unknown;
      };
    }[];
    manifest_transport: string;
    recommended_transport: string;
    agent_count: number;
    max_connections: number;
    mods: {
      name: string;
      mod_id: string;
      enabled: boolean;
    }[];
    agents?: {
      [k: string]: {
        capabilities: unknown[];
        last_seen: number;
        transport_type?: string;
        address?: null;
      };
    };
  };
}
export interface RegisterRequest {
  /**
   * letters, digits, `_`, `.`, `@`, `-`
   */
  agent_id: string;
  /**
   * describes the agent
   */
  metadata?: {
    [k: string]: unknown;
  } | null;
  /**
   * SHA-256 (hexadecimal) of the password of the group to join
   */
  password_hash?: string | null;
  /**
   * name of the group to join
   */
  agent_group?: string | null;
  /**
   * an invite, which may name the id and the group
   */
  invite?: string | null;
  /**
   * the present secret of the id
   */
  secret?: string | null;
}
export interface RegisterAnswer {
  success: true;
  network_name: string;
  network_id: string;
  secret: string;
  assigned_group: string | null;
}
export interface SendEventRequest {
  /**
   * `domain.entity.action`
   */
  event_name: string;
  /**
   * id of the sender
   */
  source_id?: string | null;
  /**
   * an agent, `agent:broadcast`, `channel:ID`, `group:ID`, `mod:ID`; empty: any mod
   */
  target_agent_id?: string | null;
  /**
   * the same as `target_agent_id`
   */
  destination_id?: string | null;
  /**
   * as in an event
   */
  event_id?: string | null;
  /**
   * as in an event
   */
  payload?: {
    [k: string]: unknown;
  } | null;
  /**
   * as in an event
   */
  metadata?: {
    [k: string]: unknown;
  } | null;
  /**
   * as in an event
   */
  visibility?: string | null;
  /**
   * as in an event
   */
  secret?: string | null;
  /**
   * as in an event
   */
  timeout?: number | null;
  /**
   * as in an event
   */
  allowed_agents?: string[] | null;
  /**
   * as in an event
   */
  requires_response?: boolean | null;
  /**
   * as in an event
   */
  response_to?: string | null;
  /**
   * as in an event
   */
  thread_name?: string | null;
  /**
   * as in an event
   */
  text_representation?: string | null;
}
export interface SendEventAnswer {
  success: boolean;
  message: string;
  data: unknown;
  event_id: unknown;
  event_name: unknown;
}
export interface PollAnswer {
  success: boolean;
  messages: {
    event_name: string;
    source_id: string | null;
    event_id: string;
    timestamp: number;
    payload: {
      [k: string]: unknown;
    };
    metadata: {
      [k: string]: unknown;
    };
  }[];
  agent_id: string;
}
export interface UnregisterRequest {
  /**
   * letters, digits, `_`, `.`, `@`, `-`
   */
  agent_id: string;
  /**
   * the present secret of the id
   */
  secret?: string | null;
}
export interface UnregisterAnswer {
  success: boolean;
}
