/* Those who follow the events: GET /v1/events?follow=1. Loop thread. */
#pragma once

struct ld_core;
struct ld_followers;

/* Watches the core's events; borrowed. */
struct ld_followers *ld_followers_new(struct ld_core *core);
/* Ends all of them: the stop begins. */
void ld_followers_stop(struct ld_followers *followers);
/* After the stop, once no operation is left. NULL is fine. */
void ld_followers_free(struct ld_followers *followers);
