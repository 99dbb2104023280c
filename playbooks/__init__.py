"""Configure real hosts: Ansible roles, and what hands them the policy's word."""
